"""Count the people in a picture and say who raises a hand.

python examples/count_people.py examples/park.jpg
"""

import sys

import cv2

import edgepose

pose = edgepose.load()
poses = pose(cv2.imread(sys.argv[1]))
print(f"{len(poses)} people")
for person in poses:
    for side in ("left", "right"):
        wrist, shoulder = person.keypoint(f"{side}_wrist")[0], person.keypoint(f"{side}_shoulder")[0]
        if min(wrist[2], shoulder[2]) > 0.3 and wrist[1] < shoulder[1]:
            print(f"score {person.scores[0]:.2f}: {side} hand raised")
