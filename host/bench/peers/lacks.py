"""What a peer does not do for the job, in the same few respects for all."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Lacks:
    """Each in a few words; a "yes" lacks nothing."""

    durable: str
    answers: str
    users: str
    replay: str
    needs: str


HEADINGS = {
    "durable": "Durable before acknowledged",
    "answers": "Answers while events come",
    "users": "Users counted exactly",
    "replay": "Replay",
    "needs": "Needs",
}
