"""Which episodes are trained on: a function of seed, epoch and index; everything once; base classes of both images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oshp_bench.baselines.eopnet.network import EOPNet
from oshp_bench.episodes.draws import Draw, Draws
from oshp_bench.errors import OshpError
from oshp_bench.manifest import Manifest, load_manifest
from oshp_bench.training.samples import draws_of
from oshp_bench.training.settings import TrainSettings


def drawn(draws: Draws, epochs: int) -> list[Draw]:
    """The episodes of some epochs in order."""
    return [draws.draw(epoch, index) for epoch in range(epochs) for index in range(len(draws))]


K_WAY, ONE_WAY = TrainSettings(), TrainSettings(way="1")


def test_k_way_passes_q_train_with_any_support(manifest: Manifest) -> None:
    draws = draws_of(manifest, K_WAY)
    queries, supports = manifest.pools["query_train"], manifest.pools["support_train"]
    assert len(draws) == len(queries) == 20
    orders, used = [], set()
    for epoch in range(20):
        episodes = [draws.draw(epoch, index) for index in range(20)]
        assert sorted(each.query for each in episodes) == sorted(queries)
        assert {each.targets for each in episodes} == {(0,)}
        orders.append([each.query for each in episodes])
        used |= {support for each in episodes for support in each.supports}
    assert len({tuple(order) for order in orders}) == 20
    assert used == set(supports)
    assert draws.images == (*queries, *supports)


def test_one_way_passes_every_base_class_with_the_queries_that_hold_it(manifest: Manifest) -> None:
    base = manifest.ids_of("base")
    queries, supports = manifest.pools["query_train"], manifest.pools["support_train"]
    wanted = Counter(
        (query, target) for target in base for query, present in queries.items() if target in (present or ())
    )
    draws = draws_of(manifest, ONE_WAY)
    assert len(draws) == sum(wanted.values()) // 2 * 2
    episodes = drawn(draws, 12)
    for passage in range(10):
        part = episodes[passage * sum(wanted.values()) :][: sum(wanted.values())]
        assert Counter((each.query, *each.targets) for each in part) == wanted
    for each in episodes:
        (target,), (support,) = each.targets, each.supports
        assert target in base and target in (queries[each.query] or ()) and target in (supports[support] or ())


def test_a_method_may_want_a_support_for_each_class_that_the_query_shows(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EOPNet, "supports", "each class")
    # Nobody holds class 2 in S_train, so no support can be drawn for it; and a query shows nothing but class 2.
    supports = {
        image: tuple(number for number in present or () if number != 2)
        for image, present in manifest.pools["support_train"].items()
    }
    queries = {**manifest.pools["query_train"], "only": (2,)}
    held = replace(manifest, pools={**manifest.pools, "query_train": queries, "support_train": supports})
    episodes = drawn(draws_of(held, K_WAY), 20)
    for episode in episodes:
        assert episode.targets == tuple(target for target in (1, 3) if target in (queries[episode.query] or ()))
        assert all(
            target in supports[support] for target, support in zip(episode.targets, episode.supports, strict=True)
        )
    assert {episode.query for episode in episodes} == {
        query for query, present in queries.items() if {1, 3} & set(present or ())
    }
    # Each class has its own support; sometimes it is the same image.
    pairs = [episode.supports for episode in episodes if len(episode.supports) == 2]
    assert 0 < sum(first == second for first, second in pairs) < len(pairs) / 4
    assert drawn(draws_of(held, ONE_WAY), 1)[0].targets in ((1,), (3,))


def test_the_first_queries_of_every_class_can_be_enough_in_one_way_alone(manifest: Manifest) -> None:
    episodes = drawn(draws_of(manifest, replace(ONE_WAY, queries_per_class=3, batch=1)), 1)
    for target in manifest.ids_of("base"):
        first = [query for query, present in manifest.pools["query_train"].items() if target in (present or ())][:3]
        assert sorted(each.query for each in episodes if each.targets == (target,)) == first
    assert drawn(draws_of(manifest, replace(K_WAY, queries_per_class=3)), 2) == drawn(draws_of(manifest, K_WAY), 2)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["k", "1"]),
    st.integers(1, 50),
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 63)), min_size=1),
)
def test_an_episode_is_the_same_whoever_asks_and_in_which_order(
    manifest: Manifest, way: str, episodes: int, batch: int, places: list[tuple[int, int]]
) -> None:
    chosen = TrainSettings(way=way, episodes=max(episodes, batch), batch=batch)  # type: ignore[arg-type]
    alone, again = draws_of(manifest, chosen), draws_of(manifest, chosen)
    in_order = drawn(alone, 4)
    assert len(alone) == max(episodes, batch) // batch * batch
    for epoch, number in places:
        index = number % len(alone)
        assert again.draw(epoch, index) == in_order[epoch * len(alone) + index]


@pytest.mark.parametrize(("episodes", "batch"), [(7, 2), (13, 3), (33, 4), (20, 1)])
def test_epochs_of_any_length_leave_no_query_out(manifest: Manifest, episodes: int, batch: int) -> None:
    draws = draws_of(manifest, replace(K_WAY, episodes=episodes, batch=batch))
    queries = [each.query for each in drawn(draws, 20)]
    for passage in range(len(queries) // 20):
        assert sorted(queries[passage * 20 : (passage + 1) * 20]) == sorted(manifest.pools["query_train"])


def test_supports_are_drawn_anew_unless_the_settings_say_once(manifest: Manifest) -> None:
    anew, once = (
        [
            sorted((each.query, each.targets, each.supports) for each in (draws.draw(epoch, i) for i in range(20)))
            for epoch in range(3)
        ]
        for draws in (draws_of(manifest, K_WAY), draws_of(manifest, replace(K_WAY, redraw=False)))
    )
    assert anew[0] != anew[1] != anew[2]
    assert once[0] == once[1] == once[2] == anew[0]
    # Their order changes nevertheless.
    draws = draws_of(manifest, replace(K_WAY, redraw=False))
    assert [draws.draw(0, i) for i in range(20)] != [draws.draw(1, i) for i in range(20)]


def test_the_seed_decides(manifest: Manifest) -> None:
    assert drawn(draws_of(manifest, replace(K_WAY, seed=1)), 1) != drawn(draws_of(manifest, K_WAY), 1)
    assert drawn(draws_of(manifest, ONE_WAY), 2) == drawn(draws_of(manifest, replace(ONE_WAY)), 2)


def test_these_episodes_never_change(manifest: Manifest) -> None:
    """A published run can be repeated: its episodes may not depend on a version of anything."""
    episodes = drawn(draws_of(manifest, replace(K_WAY, episodes=4)), 1)
    assert [each.query for each in episodes] == ["096", "084", "088", "092"]
    assert [each.supports for each in episodes] == [("101",), ("105",), ("105",), ("117",)]


def test_a_manifest_that_does_not_know_its_training_classes_is_refused() -> None:
    with pytest.raises(OshpError) as raised:
        draws_of(load_manifest("cihp_fold1"), K_WAY)
    assert raised.value.problems == (
        "cihp_fold1: does not know which classes the images of query_train hold; tailor it from your own masks with"
        " oshp-tailor, and train on that manifest",
    )


def test_too_few_episodes_are_refused(manifest: Manifest) -> None:
    with pytest.raises(OshpError, match="tiny_fold1: 20 episodes an epoch do not fill a batch of 21"):
        draws_of(manifest, replace(K_WAY, batch=21))
    bare = replace(manifest, pools={**manifest.pools, "support_train": {"x": ()}})
    with pytest.raises(OshpError, match="tiny_fold1: its training pools hold no pair of images with one base class"):
        draws_of(bare, ONE_WAY)


def test_a_novel_class_is_never_a_target(manifest: Manifest) -> None:
    novel = set(manifest.ids_of("novel"))
    held = {each for present in manifest.pools["query_train"].values() for each in present or ()}
    assert novel & held
    assert not novel & {target for each in drawn(draws_of(manifest, ONE_WAY), 3) for target in each.targets}
