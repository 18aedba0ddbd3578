"""Which samples, which noise: pure functions of seed and position."""

import numpy as np
import pytest
import torch

from model.training.config import Sigma
from model.training.order import CurriculumError, Mix, chunks, curriculum, drawn, expected, fixed_noise, indices, sizing
from model.training.parallel import Ranks
from tests.model.training.small_training import Patterns


def sequence(seed: int, global_batch: int, steps: int, sizes: list[tuple[int, int]]) -> list[int]:
    return [n for step in range(steps) for n in indices(seed, step, global_batch, sizes).indices]


def test_every_epoch_holds_every_sample_once_and_in_another_order() -> None:
    samples = sequence(seed=3, global_batch=4, steps=50, sizes=[(0, 25)])
    epochs = [samples[i : i + 25] for i in range(0, 200, 25)]
    assert all(sorted(epoch) == list(range(25)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_the_order_does_not_depend_on_the_size_of_a_batch() -> None:
    assert sequence(3, 4, 30, [(0, 25)]) == sequence(3, 6, 20, [(0, 25)]) == sequence(3, 1, 120, [(0, 25)])


def test_a_batch_larger_than_the_source_goes_through_several_epochs() -> None:
    assert sorted(sequence(0, 12, 1, [(0, 3)])) == sorted([0, 1, 2] * 4)


def test_another_seed_is_another_order() -> None:
    assert sequence(0, 10, 1, [(0, 10)]) != sequence(1, 10, 1, [(0, 10)])


def test_the_order_of_a_seed_is_what_it_always_was() -> None:
    """A library that changed it would make every training go on with other samples than it began with."""
    assert sequence(0, 10, 2, [(0, 10)]) == [5, 0, 9, 7, 3, 2, 1, 4, 6, 8, 0, 7, 6, 2, 9, 3, 1, 8, 5, 4]


def test_each_phase_begins_its_own_epochs_at_its_step() -> None:
    sizes = [(0, 6), (4, 9)]
    places = [indices(0, step, 3, sizes) for step in range(7)]
    assert [place.phase for place in places] == [0, 0, 0, 0, 1, 1, 1]
    assert sorted(n for place in places[:2] for n in place.indices) == list(range(6))
    assert sorted(n for place in places[4:] for n in place.indices) == list(range(9))
    assert [place.first for place in places] == [0, 3, 6, 9, 12, 15, 18]


@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [8, 13])
def test_ranks_share_a_batch_without_gap_or_overlap(world: int, count: int) -> None:
    shares = [list(Ranks(rank, world, torch.device("cpu")).share(count)) for rank in range(world)]
    assert [n for share in shares for n in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_is_drawn_for_a_position_does_not_depend_on_its_neighbours() -> None:
    source, arguments = Patterns(8), (Sigma(), 3.0, 0.5)
    batch, sigma, noise = drawn(source.read(range(8)), 7, range(100, 108), *arguments)
    for i in range(8):
        alone, its_sigma, its_noise = drawn(source.read([i]), 7, [100 + i], *arguments)
        assert alone.prompts[0] == batch.prompts[i]
        assert torch.equal(its_sigma[0], sigma[i])
        assert torch.equal(its_noise[0], noise[i])
    assert noise.shape == batch.target.shape


def test_other_positions_and_other_seeds_have_independent_noise() -> None:
    source = Patterns(1)
    noises = [drawn(source.read([0]), seed, [p], Sigma(), 3.0, 0.0)[2].flatten() for seed in (0, 1) for p in range(300)]
    correlation = np.corrcoef(torch.stack(noises).numpy())
    off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
    assert abs(off_diagonal.mean()) < 0.005
    assert abs(off_diagonal.std() - 64**-0.5) < 0.005  # of independent vectors of 64 numbers: 1 / sqrt(64)


def test_noise_is_normal_sigma_logit_normal_and_prompts_fall_at_their_rate() -> None:
    count, shift = 4000, 5.0
    batch, sigma, noise = drawn(Patterns(count).read(range(count)), 0, range(count), Sigma(None, 0.5, 1.5), shift, 0.2)
    assert abs(noise.mean().item()) < 0.01
    assert abs(noise.std().item() - 1) < 0.01
    unshifted = sigma / (shift - (shift - 1) * sigma)
    logit = torch.logit(unshifted.double())
    assert abs(logit.mean().item() - 0.5) < 0.1
    assert abs(logit.std().item() - 1.5) < 0.1
    dropped = sum(prompt == "" for prompt in batch.prompts)
    assert abs(dropped / count - 0.2) < 0.03


def test_noise_for_validation_belongs_to_the_sample() -> None:
    target = Patterns(4).read(range(4)).target
    assert torch.equal(fixed_noise(target, [0, 1, 2, 3])[2:], fixed_noise(target[2:], [2, 3]))
    assert not torch.equal(*fixed_noise(target[:2], [0, 1]))


def test_a_lone_source_is_a_curriculum_of_one_phase() -> None:
    source = Patterns(3)
    assert [(phase.from_step, phase.source) for phase in curriculum(source)] == [(0, source)]


@pytest.mark.parametrize("starts", [[], [1], [0, 0], [0, 5, 3]])
def test_phases_that_do_not_follow_one_another_are_refused(starts: list[int]) -> None:
    with pytest.raises(CurriculumError, match="must begin at 0"):
        curriculum([(start, Patterns(3)) for start in starts])


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(CurriculumError, match="step 5 holds no sample"):
        curriculum([(0, Patterns(3)), (5, Patterns(0))])


# sources of two kinds


class Both(Patterns):
    """A source of 7 samples of the first kind and 3 of the second."""

    mix = Mix(7, 3, 0.3)


def test_each_kind_of_a_mix_has_epochs_of_its_own_and_numbers_tell_them_apart() -> None:
    mix = Mix(25, 4, 0.2)
    numbers = sequence(seed=3, global_batch=5, steps=100, sizes=[(0, mix)])
    assert len(set(numbers)) == len(numbers) == 500
    main, aside = ([n for n in numbers if (n % 29 < 25) == first] for first in (True, False))
    assert (len(main), len(aside)) == (400, 100)
    for kind, size in ((main, 25), (aside, 4)):
        epochs = [kind[i : i + size] for i in range(0, len(kind), size)]
        assert all({n // 29 for n in epoch} == {number} for number, epoch in enumerate(epochs))
        places = [tuple(n % 29 for n in epoch) for epoch in epochs]
        assert all(sorted(epoch) == sorted(places[0]) for epoch in places)
        assert len(set(places)) > 10


@pytest.mark.parametrize("share", [0.05, 0.1, 1 / 3, 0.5, 0.77])
@pytest.mark.parametrize("mix", [Mix(1000, 3), Mix(3, 1000)])
def test_the_share_of_a_kind_holds_in_every_stretch_whatever_the_numbers_of_samples(share: float, mix: Mix) -> None:
    numbers = sequence(0, 10, 100, [(0, mix._replace(share=share))])
    aside = np.array([n % 1003 >= mix.main for n in numbers])
    for length in (1, 20, 333, 1000):
        counts = np.convolve(aside, np.ones(length), "valid")
        assert np.abs(counts - share * length).max() <= 1.1  # a share is held to 1 in 10,000


def test_without_a_share_and_with_nothing_else_only_one_kind_is_read() -> None:
    assert {n % 5 for n in sequence(0, 4, 20, [(0, Mix(5))])} == set(range(5))
    assert {n % 8 for n in sequence(0, 4, 20, [(0, Mix(5, 3, 0.0))])} == set(range(5))
    assert {n % 8 for n in sequence(0, 4, 20, [(0, Mix(5, 3, 1.0))])} == {5, 6, 7}


def test_where_forward_samples_stand_differs_by_seed() -> None:
    first = [
        next(i for i, n in enumerate(sequence(seed, 1, 40, [(0, Mix(9, 9, 0.05))])) if n % 18 >= 9) for seed in range(8)
    ]
    assert len(set(first)) > 4


def test_the_order_of_a_mix_is_what_it_always_was() -> None:
    """A library that changed it would make every training go on with other samples than it began with."""
    assert sequence(0, 10, 2, [(0, Mix(6, 3, 0.25))]) == [
        6,
        5,
        0,
        3,
        7,
        2,
        1,
        4,
        8,
        9,
        11,
        12,
        17,
        10,
        14,
        13,
        15,
        20,
        22,
        23,
    ]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("done", [0, 3])
def test_what_ranks_are_told_to_expect_is_what_they_will_read(world: int, done: int) -> None:
    phases = curriculum([(0, Patterns(6)), (5, Both(10))])
    sizes = [(phase.from_step, sizing(phase.source)) for phase in phases]
    assert sizes == [(0, 6), (5, Both.mix)]
    for rank in range(world):
        micro = chunks(Ranks(rank, world, torch.device("cpu")).share(7), 2)
        told = [list(expected(4, range(done, 9), 7, sizes, phase, micro)) for phase in (0, 1)]
        for phase, steps in enumerate((range(done, 5), range(5, 9))):
            read = [[indices(4, step, 7, sizes).indices[i] for i in part] for step in steps for part in micro]
            assert told[phase] == read


def test_a_few_shards_at_once_are_mixed_and_none_is_come_back_to_within_an_epoch() -> None:
    shards = tuple(np.random.default_rng(0).integers(1, 9, 40).tolist())
    mix = Mix(sum(shards), 5, 0.1, shards, (2, 3), 4)
    of_shard = np.repeat(np.arange(40), shards)
    numbers = [n for n in sequence(3, 10, 100, [(0, mix)]) if n % (mix.main + 5) < mix.main]
    epochs = [[n % (mix.main + 5) for n in numbers[i : i + mix.main]] for i in range(0, 4 * mix.main, mix.main)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(mix.main))
        seen = of_shard[epoch]
        first, last = ([int(np.flatnonzero(seen == n)[at]) for n in range(40)] for at in (0, -1))
        open_ = [sum(a <= at <= b for a, b in zip(first, last, strict=True)) for at in range(mix.main)]
        assert max(open_) <= 4
        assert np.mean(open_) > 2.5
        assert np.mean(np.abs(np.diff(seen)) > 0) > 0.6  # mixed, not one after the other
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len({frozenset(of_shard[epoch[:10]]) for epoch in epochs}) == 4
