"""The independent count that every peer's answer is held against: plain Python over the same files, nothing shared with anybody."""

import json
from collections import defaultdict

ACTIONS = ("view", "play", "pause", "unmute", "carousel_left", "carousel_right")
WEIGHTS = (1, 2, -1, 1, 0, 0)


def score(counts):
    return sum(count * weight for count, weight in zip(counts, WEIGHTS))


def hot(posts):
    """The highest score, then more views, then the smaller id."""
    return min(posts, key=lambda post: (-score(posts[post]), -posts[post][0], post), default=None)


def answer_of(totals, visitors, posts, fetches, fetchers):
    """An answer as every peer gives it. `posts` may be left out by None."""
    top = hot(posts) if posts is not None else None
    answer = {
        "total_events": sum(totals),
        "total_visitors": visitors,
        **dict(zip(ACTIONS, totals)),
        "homepage_fetches": fetches,
        "unique_visitors": fetchers,
    }
    if posts is not None:
        answer |= {"hot_post": top, "hot_post_score": score(posts[top]) if top else None, "posts": posts}
    return answer


def count(files):
    """Counts the lines of all these files."""
    totals, visitors, fetchers, fetches = [0] * len(ACTIONS), set(), set(), 0
    posts = defaultdict(lambda: [0] * len(ACTIONS))
    index = {action: number for number, action in enumerate(ACTIONS)}
    for file in files:
        with open(file, "rb") as lines:
            for line in lines:
                event = json.loads(line)
                if event["type"] == "action":
                    number = index[event["action"]]
                    totals[number] += 1
                    visitors.add(event["user_id"])
                    posts[event["resource_type"].removeprefix("posts:")][number] += 1
                elif event["type"] == "homepage_fetch":
                    fetches += 1
                    fetchers.add(event["user_id"])
    return answer_of(totals, len(visitors), {post: tuple(counts) for post, counts in posts.items()}, fetches, len(fetchers))


def difference(answer, expected):
    """What is wrong with an answer, or None. A number that a peer did not give is wrong, but for `posts`."""
    for name, right in expected.items():
        if name == "posts":
            continue
        if answer.get(name) != right:
            return f"{name} is {answer.get(name)} instead of {right}"
    posts = answer.get("posts")
    if posts is not None:
        told = {post: tuple(counts) for post, counts in posts.items()}
        wrong = [post for post in expected["posts"].keys() | told.keys() if told.get(post) != expected["posts"].get(post)]
        if wrong:
            post = min(wrong)
            return f"post {post} is {told.get(post)} instead of {expected['posts'].get(post)}, and {len(wrong) - 1} others"
    return None
