"""A gripper carries packages to their places: MuJoCo behind a text of a few words."""

from pick_and_place.environment import Explained as Explained
from pick_and_place.environment import PickAndPlace as PickAndPlace

__all__ = ["Explained", "PickAndPlace"]
