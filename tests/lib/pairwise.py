"""All-pairs sampling: few combinations in which as many pairs of values as possible meet."""
import itertools


def pairs(row):
    return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}


def sample(rows, most, values=tuple):
    """At most so many of the rows (tuples of names), each the one that adds most pairs of values(row); the first of equals."""
    seen, chosen, left = set(), [], [(row, pairs(values(row))) for row in rows]
    counts = {}
    while left and len(chosen) < most:
        def gain(entry):
            row, met = entry
            seldom = -sum(counts.get(place, 0) for place in enumerate(values(row)))
            return len(met - seen), seldom
        row, met = max(left, key=gain)
        if not met - seen:
            break
        seen |= met
        for place in enumerate(values(row)):
            counts[place] = counts.get(place, 0) + 1
        chosen.append(row)
    return chosen
