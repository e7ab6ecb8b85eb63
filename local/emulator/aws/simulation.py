"""`iam:SimulatePrincipalPolicy`, which SageMaker's SDK sends before a job and moto lacks."""

import uuid
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from local.emulator.errors import ServiceError

ACTIONS = ("SimulatePrincipalPolicy", "SimulateCustomPolicy")
NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"


def simulate(form: Mapping[str, Sequence[str]]) -> str:
    """The response's XML: every action is allowed on every resource of the request.

    Raises:
        ServiceError: there are no actions, or `Marker` or `MaxItems` is not a number.
    """
    action = form["Action"][0]
    names = _members(form, "ActionNames")
    if not names:
        raise ServiceError(
            "ValidationError", "ActionNames: found none, expected at least one action.", 400
        )
    resources = _members(form, "ResourceArns") or ["*"]
    pairs = [(name, resource) for name in names for resource in resources]
    try:
        first = int(form.get("Marker", ["0"])[0])
        count = int(form.get("MaxItems", ["1000"])[0])
    except ValueError:
        raise ServiceError("InvalidInput", "Marker, MaxItems: expected numbers.", 400) from None
    results = "".join(_result(name, arn) for name, arn in pairs[first : first + count])
    more = first + count < len(pairs)
    marker = f"<Marker>{first + count}</Marker>" if more else ""
    return (
        f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>'
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{marker}"
        f"<EvaluationResults>{results}</EvaluationResults></{action}Result>"
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
        f"</{action}Response>"
    )


def _members(form: Mapping[str, Sequence[str]], name: str) -> list[str]:
    prefix = f"{name}.member."
    numbered = [(int(key.removeprefix(prefix)), form[key][0]) for key in form if _is(key, prefix)]
    return [value for _, value in sorted(numbered)]


def _is(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and key.removeprefix(prefix).isdigit()


def _result(action: str, resource: str) -> str:
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
        "<EvalDecision>allowed</EvalDecision><MatchedStatements/><MissingContextValues/></member>"
    )
