"""Sign-ups by referrer, in bounded memory: the twin of signups-rust, whose header says what is kept and why. Equal events give equal
bytes and reports in both. This is what the plugin says of itself; `aggregator.py` is the accumulator.

componentize-py looks for a class named as the contract names its interface in this module, and for one named as its resource in a
module named as the interface. A result's error is raised as `Err`.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import Description, EventType, Field, Kind_Decimal, Kind_Text, Manifest, Ordering


class Aggregator(exports.Aggregator):
    def describe(self) -> Description:
        return Description(
            name="signups",
            version="1.0.0",
            summary="Sign-ups by referrer, and who signed up",
            settings_schema='{"type":"object","additionalProperties":false}',
        )

    def configure(self, settings: str) -> Manifest:
        unknown = list(json.loads(settings))
        if unknown:
            raise Err(f"signups has no setting {unknown[0]}")
        return Manifest(
            fields=[Field("/user_id", Kind_Text()), Field("/referrer", Kind_Text()), Field("/paid", Kind_Decimal(2))],
            event_types=[EventType("signup", required=[0], optional=[1, 2])],
            ordering=Ordering.COMMUTATIVE,
            state_version="1",
            loads=[],
            refusals=["paid"],
        )
