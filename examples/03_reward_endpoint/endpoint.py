import sys

import rlforge


def reward(rollout):
    return float(rollout.text.strip() == rollout.task.answer)


if __name__ == "__main__":
    rlforge.serve(reward, sys.argv[1], token="env:REWARD_TOKEN")
