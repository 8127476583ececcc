"""A job as an Open Job Description template (github.com/OpenJobDescription, jobtemplate-2023-09), for render farms.

    step render    a task for each part of the frames: replay … --frames A-B --resume --frames-only
    step finish    after all of them: replay … --resume, which renders what is missing, then makes videos and sidecars

Every word of the command that came from outside is the default of a job parameter, not a part of the template's text: nothing
in it is ever taken for a format string, or by a shell, and all of it can be changed when the job is submitted.
"""

import sys
from collections.abc import Sequence

import msgspec

from ledvolume.errors import ConfigError

MOST_TASKS = 1000  # the specification: at most 1024 values of a task parameter
LARGEST_TASK = 48  # frames: a task loads the scene, and is done again as a whole where its machine dies
FEWEST_TASKS = 8
LONGEST_VALUE = 1024  # the specification's


def parts_of(first: int, last: int) -> list[tuple[int, int]]:
    """Frames first to last in parts of the same size, for tasks."""
    count = last - first + 1
    size = max(-(-count // MOST_TASKS), min(LARGEST_TASK, -(-count // FEWEST_TASKS)))
    return [(begin, min(begin + size - 1, last)) for begin in range(first, last + 1, size)]


def job_template(
    name: str,
    track: str,
    options: dict[str, str],
    parts: Sequence[tuple[int, int]],
    is_part: bool = False,
    file: str = "template",
) -> bytes:
    """The template as JSON (which YAML is, too). options: of `ledvolume replay`, such as {"--out": "…"}. Raises ConfigError.

    is_part: the track has more frames than these parts.
    """
    values = {"Python": sys.executable, "Track": track, **{_parameter(option): value for option, value in options.items()}}
    for parameter, value in values.items():
        if len(value) > LONGEST_VALUE:
            raise ConfigError(file, parameter, f"at most {LONGEST_VALUE} characters", f"{len(value)}")
    told = [f"{option}={{{{Param.{_parameter(option)}}}}}" for option in options]
    command = ["-m", "ledvolume", "replay", "{{Param.Track}}", *told, "--resume"]
    render = {
        "name": "render",
        "parameterSpace": {
            "taskParameterDefinitions": [{"name": "Frames", "type": "STRING", "range": [f"{a}-{b}" for a, b in parts]}]
        },
        "script": _script([*command, "--frames-only", "--frames={{Task.Param.Frames}}"]),
    }
    of_these = [f"--frames={parts[0][0]}-{parts[-1][1]}"] if is_part else []
    finish = {"name": "finish", "dependencies": [{"dependsOn": "render"}], "script": _script([*command, *of_these])}
    template = {
        "specificationVersion": "jobtemplate-2023-09",
        "name": name.translate(_PLAIN)[:128],
        "parameterDefinitions": [{"name": key, "type": "STRING", "default": value} for key, value in values.items()],
        "steps": [render, finish],
    }
    return msgspec.json.format(msgspec.json.encode(template)) + b"\n"


def _script(words: list[str]) -> dict:
    return {"actions": {"onRun": {"command": "{{Param.Python}}", "args": words}}}


def _parameter(option: str) -> str:
    return option.lstrip("-").title().replace("-", "")


_PLAIN = {ord("{"): "(", ord("}"): ")"}  # a job's name is a format string
