"""What schemathesis cannot read from the OpenAPI document.

Real recordings go among the bytes that it makes up. And it is told which refusals of requests that
are right by their schema are right, too: no schema can say what audio is, how long a text is in
UTF-8, or which tokens a server has given out. Each stands here with the words of the refusal, so
that no other one passes.
"""

import re
from pathlib import Path

import schemathesis
from hypothesis import strategies

TESTDATA = Path(__file__).resolve().parents[4] / "testdata"
NAMES = ["catalog/robot_dity.ogg", "clips/cold_day_noisy.mp3"]
RECORDINGS = [(TESTDATA / name).read_bytes() for name in NAMES]

# By code of the check. ST202: a request that is right by its schema was refused; ST101: a status of
# 5xx.
RIGHT_REFUSALS = [
    ("ST202", "AUDIO_UNDECODABLE", ""),
    ("ST202", "FINGERPRINT_MALFORMED", ""),
    ("ST202", "ARGUMENT_INVALID", "the clip is empty"),
    ("ST202", "ARGUMENT_INVALID", "the upload is empty"),
    ("ST202", "ARGUMENT_INVALID", "page_token is not one of this server"),
    # 200 characters of a track id, and 128 of a request's name, can have more bytes than that.
    ("ST202", "ARGUMENT_INVALID", "bytes, at most"),
    # The time that the client itself has set.
    ("ST101", "DEADLINE_PASSED", "deadline_ms have passed"),
    ("ST202", "DEADLINE_PASSED", "deadline_ms have passed"),
]

files = strategies.one_of(strategies.sampled_from(RECORDINGS), strategies.binary(max_size=100))
for media_type in ("audio/*", "video/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, files)
schemathesis.openapi.media_type(
    "application/vnd.earmark.fingerprint", strategies.binary(max_size=100)
)
schemathesis.openapi.format("binary", files)

# What stands above a list of violations.
HEADING = re.compile(r"s?(:? ?in (body|query))?")
# Addresses and forms hold texts only: what is of another type is a text by the time it arrives.
BECAME_TEXT = re.compile(
    r"violates `type` at \S+ \(was (string|object), became \w+\)"
    r"|violates `additionalProperties`(, `propertyNames`)? at /properties/attributes$"
    # What schemathesis says where nothing is wrong with what it takes for a wrong request.
    r"|positive test case$"
)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops failures that are none."""
    if failure.code == "ST201":
        _, _, components = failure.message.partition("Invalid component")
        lines = [line.strip(" :-") for line in components.splitlines()]
        violations = [line for line in lines if line and not HEADING.fullmatch(line)]
        return not violations or not all(BECAME_TEXT.search(line) for line in violations)
    try:
        problem = response.json()
    except ValueError:
        return True
    if not isinstance(problem, dict):
        return True
    return not any(
        failure.code == code
        and problem.get("reason") == reason
        and words in problem.get("detail", "")
        for code, reason, words in RIGHT_REFUSALS
    )
