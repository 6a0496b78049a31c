"""schemathesis drives every documented operation of the running service: no 5xx, no undocumented answer."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from graphs.service import Running

pytestmark = pytest.mark.service
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
EXAMPLES = 12


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_operation_keeps_to_its_description(service: Running, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 15
    called = 0
    for operation in operations:

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck), derandomize=True,
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def drive(case: schemathesis.Case) -> None:
            nonlocal called
            if case.query and "wait" in case.query:
                case.query["wait"] = "0"  # a poll may wait for 30 seconds; that is tested elsewhere
            called += 1
            case.call_and_validate(headers={"Authorization": f"Bearer {service.key}"}, checks=CHECKS, timeout=60)

        try:
            drive()
        except Exception as error:
            if type(error).__name__ != "Unsatisfiable":  # an operation without parameters cannot be called wrongly
                raise
    assert called >= 5 * len(operations)
