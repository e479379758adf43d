"""Small images with things on them, and how the configuration describes their files."""

import numpy as np

SIDE_PX = 40
NM = {"start_nm": 450, "stop_nm": 650, "count": 9}


def image(seed):
    """(H, W, C) uint16 with two rectangles."""
    rng = np.random.default_rng(seed)
    cube = np.full((SIDE_PX, SIDE_PX, 9), 1000.0)
    cube[5:20, 5:22] = 2500
    cube[24:36, 18:34, 4:] = 1800
    return (cube + rng.normal(0, 15, cube.shape)).astype("uint16")
