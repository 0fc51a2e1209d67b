"""Scores of disentanglement on codes whose worth is known: perfect, rotated, random, redundant."""

import numpy as np
import pytest

from condgen.metrics.disentanglement import Dci, dci, entropies, factor_vae_score, mig, mutual_information

LEVELS = (3, 4, 6, 8)
N = 4000


@pytest.fixture(scope="module")
def factors():
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, levels, N) for levels in LEVELS], axis=1)


def standard(factors):
    return (factors - factors.mean(0)) / factors.std(0)


def rotation(n, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def noise(n, seed=2):
    return np.random.default_rng(seed).normal(size=(N, n))


def mean_gap(codes, factors):
    return mig(mutual_information(codes, factors), entropies(factors)).mean()


def scores(codes, factors):
    told = dci(codes, factors)
    return {
        "MIG": mean_gap(codes, factors), "D": told.disentanglement, "C": told.completeness,
        "I": told.informativeness, "FactorVAE": factor_vae_score(codes, factors),
    }  # fmt: skip


def test_a_perfect_code_is_perfect(factors):
    assert all(score > 0.98 for score in scores(standard(factors), factors).values())


def test_noise_beside_a_perfect_code_costs_nothing(factors):
    codes = np.hstack([standard(factors) + 0.1 * noise(4), noise(6, 3)])
    told = scores(codes, factors)
    assert told["D"] > 0.98 and told["C"] > 0.98 and told["FactorVAE"] > 0.98 and told["MIG"] > 0.6


def test_a_rotated_code_knows_as_much_and_is_entangled(factors):
    told = scores(standard(factors) @ rotation(4), factors)
    assert told["MIG"] < 0.35 and told["D"] < 0.5 and told["C"] < 0.5
    assert told["I"] > 0.6


def test_two_factors_in_one_number_are_complete_and_not_disentangled(factors):
    x = standard(factors)
    both = factors[:, 0] * 10 + factors[:, 1]  # one number tells two factors wholly
    told = dci(np.column_stack([both, x[:, 2], x[:, 3]]).astype(float), factors)
    assert told.completeness > 0.98 and told.disentanglement < 0.85


def test_a_random_code_is_at_chance(factors):
    told = scores(noise(6), factors)
    assert told["MIG"] < 0.02 and told["D"] == told["C"] == 0
    assert told["I"] == pytest.approx(np.mean([1 / levels for levels in LEVELS]), abs=0.04)
    assert told["FactorVAE"] == pytest.approx(1 / len(LEVELS), abs=0.06)


def test_places_signs_and_scales_do_not_matter(factors):
    mixed = standard(factors) @ rotation(4) + 0.1 * noise(4)
    other = (mixed * [2, -1, 0.5, -3])[:, [2, 0, 3, 1]]
    before, after = scores(mixed, factors), scores(other, factors)
    for name in before:
        assert after[name] == pytest.approx(before[name], abs=0.03), name


def test_what_is_reported_twice_has_no_gap(factors):
    x = standard(factors)
    gaps = mig(mutual_information(np.hstack([x, -x[:, :1]]), factors), entropies(factors))
    assert gaps[0] == pytest.approx(0, abs=1e-9) and (gaps[1:] > 0.98).all()
    told = dci(np.hstack([x, -x[:, :1]]), factors)
    assert told.disentanglement > 0.98 and told.completeness < 0.99


def test_information_is_that_of_the_joint_table(factors):
    """Of a code that shows a factor wholly its entropy; of one that shows every second bit of it, that bit's."""
    information = mutual_information(np.stack([factors[:, 3], factors[:, 3] // 4], 1).astype(float), factors)
    assert information[:, 3] == pytest.approx([entropies(factors)[3], entropies(factors[:, 3:] // 4)[0]], abs=1e-9)
    assert entropies(factors) == pytest.approx(np.log(LEVELS), abs=0.01)
    assert mig(information, entropies(factors))[3] == pytest.approx(2 / 3, abs=0.02)


def test_a_single_number_has_all_of_its_gap(factors):
    assert mean_gap(factors[:, :1].astype(float), factors[:, :1]) == pytest.approx(1)


def test_more_levels_than_bins_cannot_reach_one():
    factor = np.random.default_rng(0).integers(0, 100, (20_000, 1))
    gap = mean_gap(factor.astype(float), factor)
    assert gap == pytest.approx(np.log(20) / np.log(100), abs=0.01)


def test_collapsed_numbers_do_not_vote(factors):
    x = standard(factors)
    dead = 1e-3 * noise(4)
    assert factor_vae_score(np.hstack([x, dead]), factors) > 0.98
    assert factor_vae_score(dead, factors) == 0


def test_importance_and_chance_are_reported_by_factor(factors):
    told = dci(np.hstack([standard(factors)[:, :2], noise(1)]), factors)
    assert isinstance(told, Dci) and told.importance.shape == (3, 4)
    assert told.importance[[0, 1], [0, 1]] == pytest.approx(1, abs=0.35)
    off = told.importance.copy()
    off[[0, 1], [0, 1]] = 0
    assert off.max() == 0 and told.accuracy[:2] == pytest.approx(1)
    assert told.chance == pytest.approx([1 / levels for levels in LEVELS], abs=0.04)


@pytest.mark.parametrize(
    "codes, factors, message",
    [
        (np.zeros((3, 2)), np.zeros((4, 2), int), "belong|codes"),
        (np.full((4, 2), np.nan), np.zeros((4, 2), int), "finite"),
        (np.zeros((4, 2)), np.zeros((4, 2)), "levels"),
        (np.zeros((4, 2)), np.full((4, 2), -1), "levels"),
    ],
)
def test_arrays_that_cannot_be_are_refused(codes, factors, message):
    for score in (mutual_information, dci, factor_vae_score):
        with pytest.raises(ValueError, match=message):
            score(codes, factors)


def test_a_constant_factor_is_refused():
    with pytest.raises(ValueError, match="factor 1 is constant"):
        entropies(np.array([[0, 3], [1, 3]]))


# second implementations, written from the papers


def mig_of_the_paper(codes, factors, bins=20):
    """Chen et al. (2018), equation 6: entropies of a joint histogram, H(z) + H(v) - H(z, v)."""

    def entropy(counts):
        p = counts[counts > 0] / counts.sum()
        return -(p * np.log(p)).sum()

    gaps = []
    for v in factors.T:
        table = [np.histogram2d(z, v, (bins, v.max() + 1))[0] for z in codes.T]
        information = sorted(entropy(t.sum(1)) + entropy(t.sum(0)) - entropy(t) for t in table)
        gaps.append((information[-1] - information[-2]) / entropy(np.bincount(v)))
    return np.array(gaps)


def factor_vae_of_the_paper(codes, factors, votes, batch, seed):
    """Kim and Mnih (2018), section 3, image by image."""
    rng, scale = np.random.default_rng(seed), codes.std(0)
    kept = scale >= 0.05
    pairs = []
    for _ in range(2 * votes):
        k = rng.integers(factors.shape[1])
        value = factors[rng.integers(len(factors)), k]
        rows = rng.choice(np.flatnonzero(factors[:, k] == value), batch)
        pairs.append((np.argmin((codes[rows][:, kept] / scale[kept]).var(0)), k))
    train, test = pairs[:votes], pairs[votes:]
    majority = {d: max(range(factors.shape[1]), key=lambda k: train.count((d, k))) for d in {d for d, _ in train}}
    return np.mean([majority.get(d, 0) == k for d, k in test])


def kinds_of_codes(factors):
    x = standard(factors)
    return {
        "noisy": x + 0.3 * noise(4), "rotated": x @ rotation(4), "random": noise(5),
        "redundant": np.hstack([x, -x[:, :1], 1e-3 * noise(2)]),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["noisy", "rotated", "random", "redundant"])
def test_mig_is_that_of_the_paper(factors, kind):
    codes = kinds_of_codes(factors)[kind]
    found = mig(mutual_information(codes, factors), entropies(factors))
    assert found == pytest.approx(mig_of_the_paper(codes, factors), abs=1e-9)


@pytest.mark.parametrize("kind", ["noisy", "rotated", "random", "redundant"])
def test_the_factor_vae_score_is_that_of_the_paper(factors, kind):
    """Both draw votes: the standard error of a share of 1,000 is at most .016 each."""
    codes = kinds_of_codes(factors)[kind]
    found = factor_vae_score(codes, factors, votes=1000)
    assert found == pytest.approx(factor_vae_of_the_paper(codes, factors, 1000, 64, 7), abs=0.07)
