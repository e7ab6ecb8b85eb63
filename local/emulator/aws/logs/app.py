"""The operations of CloudWatch Logs, as in its API reference (protocol JSON 1.1)."""

import fnmatch
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from werkzeug.wrappers import Response

from local.emulator.aws.logs.files import Event, EventFile
from local.emulator.aws.logs.filters import compile_pattern
from local.emulator.aws.logs.metrics.publisher import LogMetrics
from local.emulator.aws.logs.metrics.transformations import check_transformations
from local.emulator.aws.logs.store import Group, LogStore, StreamNotFound, event_ids, now
from local.emulator.credentials import ACCOUNT
from local.emulator.errors import ServiceError
from local.emulator.shapes.parser import check
from local.emulator.shapes.service_model import service_model

DAY = 24 * 3600 * 1000
OLDEST, NEWEST = 14 * DAY, DAY // 12
"""Limits of event timestamps in PutLogEvents, in ms before and after now (API reference)."""
BATCH_BYTES, EVENT_BYTES = 1_048_576, 26
"""Most bytes of a PutLogEvents batch: the UTF-8 messages, plus 26 per event (API reference)."""
PAGE = 50
EVENTS_PAGE = 10_000
"""Largest and default page size: of log groups, streams and filters; of events."""
GROUP_SETTINGS = ("retentionInDays", "kmsKeyId")

Members = dict[str, Any]


class LogsApp:
    """Answers requests to CloudWatch Logs."""

    def __init__(self, store: LogStore, metrics: LogMetrics) -> None:
        self._store, self._metrics = store, metrics
        self._operations: dict[str, Callable[[str, Members], Members | None]] = {
            "CreateLogGroup": self._create_group,
            "DeleteLogGroup": self._delete_group,
            "DescribeLogGroups": self._describe_groups,
            "PutRetentionPolicy": self._put_retention,
            "DeleteRetentionPolicy": self._delete_retention,
            "CreateLogStream": self._create_stream,
            "DeleteLogStream": self._delete_stream,
            "DescribeLogStreams": self._describe_streams,
            "PutLogEvents": self._put_events,
            "GetLogEvents": self._get_events,
            "FilterLogEvents": self._filter_events,
            "PutMetricFilter": self._put_metric_filter,
            "DeleteMetricFilter": self._delete_metric_filter,
            "DescribeMetricFilters": self._describe_metric_filters,
            "TagLogGroup": self._tag,
            "TagResource": self._tag,
            "UntagLogGroup": self._untag,
            "UntagResource": self._untag,
            "ListTagsLogGroup": self._list_tags,
            "ListTagsForResource": self._list_tags,
        }

    def answer(self, operation: str, region: str, members: Members) -> Response:
        """Answer one request.

        Raises:
            ServiceError: it is rejected, or not implemented.
        """
        run = self._operations.get(operation)
        if run is None:
            raise ServiceError(
                "NotImplemented",
                f"The local CloudWatch Logs has no {operation}; it has "
                f"{', '.join(sorted(self._operations))}.",
                501,
            )
        try:
            shape = service_model("logs").operation_model(operation).input_shape
            answer = run(region, check(shape, members))
        except ServiceError as refusal:
            if refusal.code != "ValidationException":
                raise
            raise _invalid(refusal.message) from None
        except KeyError as missing:
            raise _invalid(
                f"1 validation error detected: Value null at '{missing.args[0]}' failed to satisfy "
                "constraint: Member must not be null"
            ) from None
        body = "" if answer is None else json.dumps(answer)
        return Response(body, content_type="application/x-amz-json-1.1")

    def _group(self, region: str, members: Members) -> Group:
        return self._store.group(region, _group_name(members))

    def _create_group(self, region: str, members: Members) -> None:
        settings = {name: members[name] for name in ("kmsKeyId", "tags") if members.get(name)}
        self._store.create_group(region, members["logGroupName"], settings)

    def _delete_group(self, region: str, members: Members) -> None:
        self._store.delete_group(region, members["logGroupName"])

    def _describe_groups(self, region: str, members: Members) -> Members:
        prefix = members.get("logGroupNamePrefix") or ""
        pattern = f"*{members.get('logGroupNamePattern') or ''}*"
        found = [
            _described_group(region, group)
            for group in self._store.groups(region)
            if group.name.startswith(prefix) and fnmatch.fnmatchcase(group.name, pattern)
        ]
        return _page("logGroups", found, members)

    def _put_retention(self, region: str, members: Members) -> None:
        days = {"retentionInDays": members["retentionInDays"]}
        self._store.change_settings(region, members["logGroupName"], days)

    def _delete_retention(self, region: str, members: Members) -> None:
        self._store.change_settings(region, members["logGroupName"], {"retentionInDays": None})

    def _create_stream(self, region: str, members: Members) -> None:
        self._store.create_stream(region, members["logGroupName"], members["logStreamName"])

    def _delete_stream(self, region: str, members: Members) -> None:
        self._store.delete_stream(region, members["logGroupName"], members["logStreamName"])

    def _describe_streams(self, region: str, members: Members) -> Members:
        group = self._group(region, members)
        prefix, order = members.get("logStreamNamePrefix") or "", members.get("orderBy")
        if prefix and order == "LastEventTime":
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        streams = sorted(group.streams.copy().items())
        found = [
            _described_stream(_stream_arn(region, group, name), stream)
            for name, stream in streams
            if name.startswith(prefix)
        ]
        if order == "LastEventTime":
            found.sort(key=lambda stream: stream.get("lastEventTimestamp", 0))
        if members.get("descending"):
            found.reverse()
        return _page("logStreams", found, members)

    def _put_events(self, region: str, members: Members) -> Members:
        stream = self._group(region, members).stream(members["logStreamName"])
        sent, moment = members["logEvents"], now()
        _check_batch(sent)
        old = [moment - event["timestamp"] > OLDEST for event in sent]
        new = [event["timestamp"] - moment > NEWEST for event in sent]
        accepted = [
            (event["timestamp"], moment, event["message"])
            for event, too_old, too_new in zip(sent, old, new, strict=True)
            if not too_old and not too_new
        ]
        if accepted:
            stream.append(accepted)
            seen = [(timestamp, message) for timestamp, _, message in accepted]
            self._metrics.observe(region, _group_name(members), seen)
        answer: Members = {"nextSequenceToken": f"{len(stream.events()):056d}"}
        rejected = {}
        if True in old:
            rejected["tooOldLogEventEndIndex"] = len(old) - old[::-1].index(True)
        if True in new:
            rejected["tooNewLogEventStartIndex"] = new.index(True)
        return answer | ({"rejectedLogEventsInfo": rejected} if rejected else {})

    def _get_events(self, region: str, members: Members) -> Members:
        stream = self._group(region, members).stream(members["logStreamName"])
        begin, end = members.get("startTime") or 0, members.get("endTime")
        events = [
            event
            for event in _in_order(stream.events())
            if event.timestamp >= begin and (end is None or event.timestamp < end)
        ]
        limit = _limit(members, EVENTS_PAGE)
        token = members.get("nextToken")
        if token:
            direction, _, position = token.partition("/")
            if direction not in ("f", "b") or not position.isdigit():
                raise _invalid("The specified nextToken is invalid.")
            first = int(position) if direction == "f" else max(int(position) - limit, 0)
            last = first + limit if direction == "f" else int(position)
        elif members.get("startFromHead"):
            first, last = 0, limit
        else:
            first, last = max(len(events) - limit, 0), len(events)
        chosen = events[first:last]
        return {
            "events": [_event(event) for event in chosen],
            "nextForwardToken": f"f/{first + len(chosen):056d}",
            "nextBackwardToken": f"b/{min(first, len(events)):056d}",
        }

    def _filter_events(self, region: str, members: Members) -> Members:
        group = self._group(region, members)
        streams = _chosen_streams(group, members)
        matches = compile_pattern(members.get("filterPattern") or "")
        begin, end = members.get("startTime") or 0, members.get("endTime")
        found = []
        for name, stream in streams:
            events = [
                event
                for event in stream.events()
                if event.timestamp >= begin
                and (end is None or event.timestamp <= end)
                and matches(event.message)
            ]
            ids = event_ids(_stream_arn(region, group, name), events)
            found += [
                _event(event) | {"logStreamName": name, "eventId": event_id}
                for event, event_id in zip(events, ids, strict=True)
            ]
        newest_first = members.get("startFromHead") is False
        found.sort(key=_place, reverse=newest_first)
        if token := members.get("nextToken"):
            last = _read_place(token)
            found = [
                event
                for event in found
                if (_place(event) < last if newest_first else _place(event) > last)
            ]
        limit = _limit(members, EVENTS_PAGE)
        answer: Members = {
            "events": found[:limit],
            "searchedLogStreams": [
                {"logStreamName": name, "searchedCompletely": True} for name, _ in streams
            ],
        }
        if len(found) > limit:
            answer["nextToken"] = "{}:{}".format(*_place(found[limit - 1]))
        return answer

    def _put_metric_filter(self, region: str, members: Members) -> None:
        name, pattern = members["filterName"], members["filterPattern"]
        compile_pattern(pattern)
        check_transformations(pattern, members["metricTransformations"])
        kept = self._group(region, members).settings.get("metricFilters", {})
        added = {
            "creationTime": now(),
            "filterName": name,
            "filterPattern": pattern,
            "logGroupName": members["logGroupName"],
            "metricTransformations": members["metricTransformations"],
        }
        filters = {"metricFilters": {**kept, name: added}}
        self._store.change_settings(region, members["logGroupName"], filters)

    def _delete_metric_filter(self, region: str, members: Members) -> None:
        kept = dict(self._group(region, members).settings.get("metricFilters", {}))
        if kept.pop(members["filterName"], None) is None:
            raise ServiceError(
                "ResourceNotFoundException", "The specified metric filter does not exist."
            )
        self._store.change_settings(region, members["logGroupName"], {"metricFilters": kept})

    def _describe_metric_filters(self, region: str, members: Members) -> Members:
        wanted, prefix = members.get("logGroupName"), members.get("filterNamePrefix") or ""
        groups = [self._store.group(region, wanted)] if wanted else self._store.groups(region)
        kept = [one for group in groups for one in group.settings.get("metricFilters", {}).values()]
        found = [one for one in kept if one["filterName"].startswith(prefix)]
        if members.get("metricName"):
            metric = (members["metricName"], members.get("metricNamespace"))
            found = [one for one in found if metric in _metrics_of(one)]
        return _page("metricFilters", found, members)

    def _tag(self, region: str, members: Members) -> None:
        group = self._group(region, members)
        tags = group.settings.get("tags", {}) | members["tags"]
        self._store.change_settings(region, group.name, {"tags": tags})

    def _untag(self, region: str, members: Members) -> None:
        group = self._group(region, members)
        removed = members.get("tagKeys") or members["tags"]
        kept = group.settings.get("tags", {}).items()
        tags = {key: value for key, value in kept if key not in removed}
        self._store.change_settings(region, group.name, {"tags": tags})

    def _list_tags(self, region: str, members: Members) -> Members:
        return {"tags": self._group(region, members).settings.get("tags", {})}


def _group_name(members: Members) -> str:
    """The log group of a request, from its name or ARN."""
    if name := members.get("logGroupName"):
        return str(name)
    arn = members.get("logGroupIdentifier") or members.get("resourceArn")
    if not arn:
        raise KeyError("logGroupName")
    return str(arn).rpartition(":log-group:")[2].removesuffix(":*")


def _group_arn(region: str, group: Group) -> str:
    return f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{group.name}"


def _stream_arn(region: str, group: Group, stream: str) -> str:
    return f"{_group_arn(region, group)}:log-stream:{stream}"


def _described_group(region: str, group: Group) -> Members:
    arn = _group_arn(region, group)
    settings = {name: group.settings[name] for name in GROUP_SETTINGS if name in group.settings}
    return {
        "logGroupName": group.name,
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "logGroupClass": "STANDARD",
        "creationTime": group.created,
        "metricFilterCount": len(group.settings.get("metricFilters", {})),
        "storedBytes": sum(stream.size() for stream in group.streams.copy().values()),
        **settings,
    }


def _described_stream(arn: str, stream: EventFile) -> Members:
    described = {
        "arn": arn,
        "creationTime": stream.created,
        "logStreamName": stream.stream,
        "storedBytes": 0,  # as AWS answers since June 2019
    }
    if events := stream.events():
        times = [event.timestamp for event in events]
        described |= {
            "firstEventTimestamp": min(times),
            "lastEventTimestamp": max(times),
            "lastIngestionTime": events[-1].ingestion,
            "uploadSequenceToken": f"{len(events):056d}",
        }
    return described


def _event(event: Event) -> Members:
    return {
        "ingestionTime": event.ingestion,
        "message": event.message,
        "timestamp": event.timestamp,
    }


def _check_batch(events: Sequence[Members]) -> None:
    """Check the size, order and time span of a PutLogEvents batch.

    Raises:
        ServiceError: it is too large, not in order, or spans more than a day.
    """
    size = sum(len(event["message"].encode()) + EVENT_BYTES for event in events)
    if size > BATCH_BYTES:
        raise _invalid(
            f"Upload too large: found {size} bytes, {EVENT_BYTES} of them for each event; expected "
            f"at most {BATCH_BYTES}"
        )
    times = [event["timestamp"] for event in events]
    if times != sorted(times):
        raise _invalid(
            "Log events in a single PutLogEvents request must be in chronological order."
        )
    if times[-1] - times[0] > DAY:
        raise _invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 "
            "hours."
        )


def _in_order(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.timestamp)


def _chosen_streams(group: Group, members: Members) -> list[tuple[str, EventFile]]:
    """The streams that FilterLogEvents searches, by name.

    Raises:
        ServiceError: a stream does not exist, or both names and a prefix are given.
    """
    names, prefix = members.get("logStreamNames"), members.get("logStreamNamePrefix") or ""
    if names and prefix:
        raise _invalid("logStreamNames and logStreamNamePrefix: expected one of them.")
    streams = group.streams.copy()
    if names and not streams.keys() >= set(names):
        raise StreamNotFound
    return sorted(
        (name, stream)
        for name, stream in streams.items()
        if name.startswith(prefix) and (not names or name in names)
    )


def _place(event: Members) -> tuple[int, str]:
    """The position of an event among those of all streams, which FilterLogEvents uses as token."""
    return event["timestamp"], event["eventId"]


def _read_place(token: str) -> tuple[int, str]:
    timestamp, _, event_id = token.partition(":")
    if not timestamp.lstrip("-").isdigit():
        raise _invalid("The specified nextToken is invalid.")
    return int(timestamp), event_id


def _metrics_of(metric_filter: Members) -> Iterable[tuple[str, str | None]]:
    transformations = metric_filter["metricTransformations"]
    return ((one["metricName"], one["metricNamespace"]) for one in transformations)


def _limit(members: Members, most: int) -> int:
    limit = members.get("limit") or most
    if not isinstance(limit, int) or not 1 <= limit <= most:
        raise _invalid(
            f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy "
            f"constraint: Member must have value less than or equal to {most}"
        )
    return limit


def _page(name: str, items: Sequence[Members], members: Members) -> Members:
    """A page of items; its token is the index of the next item."""
    limit, token = _limit(members, PAGE), members.get("nextToken") or "0"
    if not token.isdigit():
        raise _invalid("The specified nextToken is invalid.")
    first = int(token)
    more = {"nextToken": str(first + limit)} if len(items) > first + limit else {}
    return {name: items[first : first + limit], **more}


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)
