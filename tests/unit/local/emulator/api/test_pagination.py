from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.emulator.api.pagination import DEFAULT_PAGE, page
from local.emulator.errors import ServiceError

Item = tuple[float, str]


def key(item: Item) -> Item:
    return item


def pages(items: list[Item], request: dict[str, Any], *, descending: bool) -> list[list[Item]]:
    found, token = [], None
    while True:
        page_request = {**request, "NextToken": token} if token else request
        chosen, token = page(items, page_request, key, descending=descending)
        found.append(chosen)
        if token is None:
            return found


@given(
    st.lists(st.tuples(st.floats(allow_nan=False), st.text()), unique_by=lambda item: item[1]),
    st.integers(1, 7),
    st.booleans(),
)
def test_all_pages_together_are_the_list(items: list[Item], size: int, descending: bool) -> None:
    found = pages(items, {"MaxResults": size}, descending=descending)
    assert [item for part in found for item in part] == sorted(items, reverse=descending)
    assert all(len(part) == size for part in found[:-1])
    assert len(found[-1]) <= size


@given(
    st.lists(st.tuples(st.integers(0, 5), st.text()), min_size=2, unique_by=lambda item: item[1]),
    st.data(),
)
def test_created_and_deleted_items_do_not_shift_others(
    items: list[Item], data: st.DataObject
) -> None:
    first, token = page(items, {"MaxResults": 1}, key)
    gone = data.draw(st.sampled_from(items))
    new = (0.0, "zz new")
    after = [item for item in items if item != gone and item[1] != new[1]] + [new]
    rest, end = page(after, {"MaxResults": 100, "NextToken": token}, key)
    assert end is None
    assert rest == sorted(item for item in after if item > first[0])


def test_a_page_has_ten_items_by_default() -> None:
    items = [(float(n), str(n)) for n in range(25)]
    assert [len(part) for part in pages(items, {}, descending=False)] == [10, 10, 5]
    assert DEFAULT_PAGE == 10


def test_a_full_last_page_is_the_last() -> None:
    items = [(float(n), str(n)) for n in range(4)]
    assert len(pages(items, {"MaxResults": 2}, descending=False)) == 2


def token_of(request: dict[str, Any]) -> str:
    _, token = page([(1.0, "a"), (2.0, "b")], {**request, "MaxResults": 1}, key)
    assert token is not None
    return token


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: "x" + t,
        lambda t: t[:-5],
        lambda _: "e30=",
        lambda _: "MTI=",
        lambda _: "ü",
        lambda t: t[::-1],
    ],
)
def test_an_invalid_token_is_refused(spoil: Any) -> None:
    with pytest.raises(ServiceError, match="not a token of this operation") as caught:
        page([(1.0, "a")], {"NextToken": spoil(token_of({}))}, key)
    assert caught.value.code == "ValidationException"


def test_a_token_is_valid_only_for_its_request() -> None:
    request = {"SortBy": "Name", "CreationTimeAfter": datetime(2025, 1, 1, tzinfo=UTC)}
    token = token_of(request)
    items = [(1.0, "a"), (2.0, "b")]
    assert page(items, {**request, "NextToken": token, "MaxResults": 9}, key)[0] == [(2.0, "b")]
    with pytest.raises(ServiceError, match="other filters or another order"):
        page(items, {"SortBy": "Status", "NextToken": token}, key)
