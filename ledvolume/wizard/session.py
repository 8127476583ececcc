"""The conversation: what is asked of the operator, what was seen, what is asked again, and at the end the mapping.

Datagrams in, words out; time is what the datagrams say, so a recorded take is answered as the live one was. Nobody presses
a key: that the camera stands still and that it moves is seen in the numbers.
"""

from math import radians

import msgspec

from ledvolume.errors import ConfigError, MotionError
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols import Reading, checked_profile, open_decoder
from ledvolume.protocols.osc_map import PRESETS, as_map, preset_map
from ledvolume.sources import Datagram
from ledvolume.wizard.mapping import LEARN, MOVES, ROTATIONS, Evidence, Facts, Mapping, moves_of
from ledvolume.wizard.motions import Motion, MotionFinder, Trace
from ledvolume.wizard.osc_learning import learn_osc
from ledvolume.wizard.proof import Proof, proof_of
from ledvolume.wizard.readings import Reader

ASKED = {
    "right": "move to camera-RIGHT, about 1 m, and stay there",
    "forward": "move FORWARD, toward the wall, about 1 m, and stay there",
    "up": "move UP, half a metre or more, and stay there",
    "pan": "pan LEFT, about 45°, and stay so",
    "tilt": "tilt UP, about 25°, and stay so",
    "roll": "roll CLOCKWISE (seen from behind), about 25°, and stay so",
    "zoom": "zoom IN, as far as it goes",
    "focus": "focus NEAR, on something about 1 m away",
    "prove": "last, the proof: walk FORWARD to where the lens looks, about 1 m",
}
ALWAYS = (*MOVES, *ROTATIONS)
PATIENCE_NS = 20_000_000_000
MOST_AGAIN = 3
MOST_DATAGRAMS = 500_000


class Session:
    """add(datagram) → lines to say. `asked`: the step that is waited for, "" at the end. `moved`: 1 = a motion has begun.

    At the end `mapping` and `proof` hold what was learnt, or `error` why nothing could be.
    """

    def __init__(self, protocol: str, facts: Facts, steps: tuple[str, ...] | None = None):
        for step in steps or ():
            if step not in ASKED:
                raise ConfigError("wizard", "--steps", f"of {', '.join(ASKED)}", step)
        if steps and set(ALWAYS) - set(steps):
            raise ConfigError("wizard", "--steps", f"at least {', '.join(ALWAYS)}", ", ".join(steps))
        self.protocol, self.facts = protocol, facts
        self.mapping: Mapping | None = None
        self.proof: Proof | None = None
        self.error: MotionError | None = None
        self.datagrams: list[Datagram] = []
        self.reader = Reader(protocol)
        self.motions: dict[str, Motion] = {}
        self._are_steps_given = steps is not None
        lens = ("zoom", "focus") if protocol in ("freed", "osc") else ()
        self._left = list(steps or (*ALWAYS, *lens, "prove"))
        self._trace, self._finder = Trace(), MotionFinder()
        self._is_told_still = False
        self._asked_at_ns = 0
        self._again = 0

    @property
    def asked(self) -> str:
        return self._left[0] if self._left else ""

    @property
    def moved(self) -> float:
        return self._finder.moved

    @property
    def is_still(self) -> bool:
        return self._finder.is_still

    def ask(self) -> str:
        """What the operator is asked to do now."""
        if not self._is_told_still:
            return "face the wall with the camera level, and hold still …"
        return ASKED[self.asked] if self.asked else ""

    def add(self, datagram: Datagram) -> list[str]:
        """What is to be said about it: mostly nothing."""
        if not self.asked:
            return []
        if len(self.datagrams) < MOST_DATAGRAMS:
            self.datagrams.append(datagram)
        said = []
        for reading in self.reader.read(datagram):
            for at_ns, row in self._trace.add(reading):
                said += self._row(at_ns, row)
        return said

    def end(self) -> list[str]:
        """No more datagrams will come. What is missing becomes an error."""
        if not self.asked or self.error:
            return []
        self.mapping = None
        if not set(ALWAYS) - set(self.motions) and self.asked in ("zoom", "focus", "prove"):
            self._left = []
            return self._conclude()
        columns = len(self._trace.columns)
        if not columns:
            self.error = MotionError(f"nothing readable came: {self.reader.unread or 'no datagrams at all'}")
        elif not self._is_told_still:
            self.error = MotionError(f"{columns} numbers came, but they were never still: hold the camera still to begin")
        else:
            seen = ", ".join(self.motions) or "none"
            text = f"the end came before {self.asked}: seen {seen}. {self._motionless()}"
            self.error = MotionError(text, tuple(self._left))
        return [str(self.error)]

    def _row(self, at_ns: int, row) -> list[str]:
        if not self.asked:
            return []
        self._finder.is_fine = self.asked in ("zoom", "focus")
        motion = self._finder.add(at_ns, row, self._trace.quanta()[: len(row)])
        if self._finder.is_still and not self._is_told_still:
            self._is_told_still, self._asked_at_ns = True, at_ns
            return [f"still: {len(row)} numbers of the wire are watched", f"now {self.ask()}"]
        if motion is not None:
            self._asked_at_ns = at_ns
            return self._moved(motion)
        if self._is_told_still and self._finder.is_still and at_ns - self._asked_at_ns > PATIENCE_NS:
            self._asked_at_ns = at_ns
            if self.asked in ("zoom", "focus") and not self._are_steps_given:
                return [f"nothing moved: {self._left.pop(0)} is not on the wire, or not at this lens", *self._next()]
            return [f"nothing moves. {self._motionless()}", f"again: {self.ask()}"]
        return []

    def _motionless(self) -> str:
        return "Is this the right camera, and is it tracked? A frozen tracker repeats its last pose"

    def _moved(self, motion: Motion) -> list[str]:
        step = self.asked
        if motion.has_returned:
            return [f"{step}: it came back to where it was; stay there. Again: {self.ask()}"]
        self.motions.pop(step, None)
        self.motions[step] = motion
        self._left.pop(0)
        return [f"got it: {self._seen(step, motion)}", *self._next()]

    def _seen(self, step: str, motion: Motion) -> str:
        change = motion.change()
        columns = range(len(change))
        if self.protocol != "osc" and step in ALWAYS:  # where they are is known
            stream = Evidence(self._trace, self.motions).columns(Evidence(self._trace, {"right": motion}).moving_stream())
            columns = stream[:3] if step in MOVES else stream[3:6] if self.protocol == "freed" else stream[3:7]
            best = max(columns, key=lambda i: abs(change[i]))
        else:
            best = max(columns, key=lambda i: abs(change[i]) / motion.sway[i])
        return f"{step}, {change[best]:+.3g} on the sender's {self._trace.columns[best][2]}"

    def _next(self) -> list[str]:
        try:
            if self.protocol != "osc" and self.asked == "pan":
                self._check_moves()
            if not self.asked or self.asked in ("zoom", "focus", "prove"):
                self._learn()
        except MotionError as error:
            return self._once_more(error)
        return [f"now {self.ask()}"] if self.asked else self._conclude()

    def _check_moves(self) -> None:
        """As soon as the moves are there, so that a bad one is done again at once."""
        evidence = Evidence(self._trace, self.motions)
        moves_of(evidence, evidence.columns(evidence.moving_stream())[:3], self.facts)

    def _learn(self) -> None:
        evidence = Evidence(self._trace, self.motions)
        self.mapping = learn_osc(evidence, self.facts) if self.protocol == "osc" else LEARN[self.protocol](evidence, self.facts)

    def _conclude(self) -> list[str]:
        try:
            self._learn()
            if self.protocol == "osc":
                self._prefer_preset()
            if self.proof is None:
                self.proof = self._proof(self.mapping)
            self._judge(self.proof)
        except MotionError as error:
            return self._once_more(error)
        return []

    def _prefer_preset(self) -> None:
        """A built-in map that reads the take as the camera moved, needs no map of its own."""
        for name in PRESETS:
            candidate = msgspec.structs.replace(self.mapping, source={"preset": name})
            wire_id = _wire_id_of_preset(name, self.datagrams)
            if wire_id is None:
                continue
            proof = self._proof(msgspec.structs.replace(candidate, wire_id=wire_id))
            if proof.poses and not proof.refused and not proof.wrong:
                self.mapping = msgspec.structs.replace(candidate, wire_id=wire_id)
                self.proof = proof
                return

    def _proof(self, mapping: Mapping) -> Proof:
        body = Pose(pan_tilt_roll(*map(radians, mapping.body_deg))) if mapping.body_deg else Pose()
        world = Pose(pan_tilt_roll(radians(mapping.yaw_deg), 0.0, 0.0))
        reading = reading_of(self.protocol, mapping.source, self.facts.sensor_mm)
        return proof_of(self.protocol, reading, mapping.wire_id, world, body, self.datagrams, self.motions)

    def _judge(self, proof: Proof) -> None:
        if proof.wrong == ("prove",):
            shown = next((s for s in proof.shown if s.step == "prove"), None)
            went = f" ({shown.off_deg:.0f}° from where the lens looked)" if shown else ""
            text = f"the proof failed: by these turns the camera walked elsewhere{went}. Pan LEFT, and forward to where it looks"
            raise MotionError(text, ("pan", "prove"))
        if proof.wrong:
            raise MotionError(f"read so, the take does not show {', '.join(proof.wrong)} as asked", proof.wrong)
        if not self.mapping.is_rigid and "prove" not in self.motions:
            text = "moves and turns are of different handedness, which no rigid body is: do it with the proof, or pan again LEFT"
            raise MotionError(text, ROTATIONS)

    def _once_more(self, error: MotionError) -> list[str]:
        self._again += 1
        self.proof = None
        if not error.steps or self._again > MOST_AGAIN:
            self._left, self.mapping, self.error = [], None, error
            return [str(error)]
        again = [step for step in error.steps if step in self.motions or step in ALWAYS]
        self._left = again + [step for step in self._left if step not in again]
        return [str(error), f"again: {self.ask()}"]


def reading_of(protocol: str, source: dict, sensor_mm: tuple[float, float] | None = None) -> Reading:
    """How a decoder is to read, by keys of a source's table. Raises ConfigError."""
    osc_map = as_map(source["map"], "wizard") if "map" in source else None
    if "preset" in source:
        osc_map = preset_map(source["preset"])
    profile = checked_profile(protocol, source["profile"], "wizard", "profile") if "profile" in source else None
    return Reading(osc_map=osc_map, profile=profile, sensor_mm=sensor_mm, clock="arrival")


def _wire_id_of_preset(name: str, datagrams: list[Datagram]) -> str | None:
    decoder = open_decoder("osc", name, clock="arrival")
    ids = {sample.camera_id for datagram in datagrams[:1000] for sample in decoder.decode(datagram)}
    return ids.pop() if len(ids) == 1 else None
