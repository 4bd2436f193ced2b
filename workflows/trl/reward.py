"""What a rating earns: the score in a reply, and Eq. 2 and 3 for the scores of two pictures. Plain Python, no packages.

The rules are evoq's own: `evoq-grpo rewards` on the table `rollouts` that grpo.py writes finds the same rewards again.
"""

import math
import re
import statistics

GAMMA = 1e-6  # added to the variance in Eq. 2
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
SPACES = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def score(reply: str) -> tuple[float | None, str | None]:
    """The rating in a reply's last closed box, or None and why it is invalid. Nothing stands in for a missing one."""
    content = last_box(reply)
    if content is None:
        return None, "no_answer"
    content = content.strip(SPACES)
    if not NUMBER.fullmatch(content) or math.isinf(float(content)):
        return None, "not_a_number"
    value = float(content)
    return (value, None) if 1 <= value <= 5 else (None, "out_of_range")


def last_box(reply: str) -> str | None:
    r"""The content of the last `\boxed{` that is ever closed; of boxes in one another the inner one is the last."""
    last, open_braces = None, []
    for at, character in enumerate(reply):
        if character == "{":
            open_braces.append(at + 1 if reply.endswith(r"\boxed", 0, at) else None)
        elif character == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and (last is None or last[0] < start):
                last = (start, at)
    return None if last is None else reply[last[0]:last[1]]


def moments(scores: list) -> tuple[float, float] | None:
    """Mean and variance (ddof 1) of the valid ones among `scores`; None for fewer than two."""
    valid = [it for it in scores if it is not None]
    return (statistics.fmean(valid), statistics.variance(valid)) if len(valid) > 1 else None


def probability(value: float, own: tuple, partner: tuple) -> float:
    """p_k(x_i, x_j), Eq. 2: how probably x_i, rated `value`, is better than x_j, given both pictures' ratings."""
    deviation = math.sqrt(own[1] + partner[1] + GAMMA)
    return 0.5 * math.erfc((partner[0] - value) / deviation / math.sqrt(2))


def agreement(preference: float, p: float) -> float:
    """The one term of Eq. 3 of a picture with one partner: sqrt(p* p) + sqrt((1 - p*)(1 - p))."""
    return math.sqrt(preference * p) + math.sqrt((1 - preference) * (1 - p))


def earned(scores: list, partner_scores: list, preference: float) -> list:
    """For each of a picture's scores its p_k and r_k.

    An invalid score (None) has no p_k and earns 0; so do all, where either picture has fewer than two valid ones.
    """
    own, partner = moments(scores), moments(partner_scores)
    if own is None or partner is None:
        return [(None, 0.0)] * len(scores)
    chances = [None if it is None else probability(it, own, partner) for it in scores]
    return [(p, 0.0 if p is None else agreement(preference, p)) for p in chances]
