"""What is said of a class: readable words, the right article, and one sentence a template."""

import pytest

from condgen.contracts import CondgenError
from condgen.data.formats.idx import FASHION as CLOTHES
from condgen.data.templates import (
    CIFAR,
    DIGITS,
    FASHION,
    GENERIC,
    class_captions,
    class_words,
    fill,
    templates_of,
)
from condgen.text import clean


@pytest.mark.parametrize(
    "name, words",
    [
        ("T-shirt/top", "t-shirt"),
        ("Trouser", "pair of trousers"),
        ("Ankle boot", "ankle boot"),
        ("3", "three"),
        ("12", "12"),
        ("maple_tree", "maple tree"),
        ("cat / kitten", "cat"),
        ("/", "/"),
        ("__", "__"),
    ],
)
def test_classes_are_called_by_words_that_one_would_say(name, words):
    assert class_words(name) == words


@pytest.mark.parametrize(
    "template, words, sentence",
    [
        ("a photo of a {}", "ankle boot", "a photo of an ankle boot"),
        ("a photo of a {}", "sandal", "a photo of a sandal"),
        ("a photo of an {}", "sandal", "a photo of a sandal"),
        ("A {} on a table", "apple", "An apple on a table"),
        ("the digit {}", "eight", "the digit eight"),
        ("a handwritten {}", "eight", "a handwritten eight"),
        ("a {} written by hand", "eight", "an eight written by hand"),
        ("a {}", "one", "a one"),
        ("a {}", "unicorn", "a unicorn"),
        ("a {}", "umbrella", "an umbrella"),
        ("a {}", "hourglass", "an hourglass"),
        ("a {}", "horse", "a horse"),
        ("drama {}", "apple", "drama apple"),
        ("a {}", r"\1 {a}", r"a \1 {a}"),
    ],
)
def test_the_article_goes_with_the_word(template, words, sentence):
    assert fill(template, words) == sentence


@pytest.mark.parametrize(
    "data, templates",
    [
        ("fashion-mnist", FASHION),
        ("torchvision:FashionMNIST", FASHION),
        ("mnist", DIGITS),
        ("hub:ylecun/mnist", DIGITS),
        ("digits", DIGITS),
        ("cifar10", CIFAR),
        ("torchvision:CIFAR100", CIFAR),
        ("cifar-10-batches-bin", CIFAR),
        ("torchvision:KMNIST", GENERIC),
        ("emoji", GENERIC),
        ("", GENERIC),
    ],
)
def test_the_sentences_go_with_the_data(data, templates):
    assert templates_of(data) == templates


@pytest.mark.parametrize("templates", [GENERIC, DIGITS, FASHION, CIFAR])
def test_every_class_has_sentences_of_its_own(templates):
    assert len(set(templates)) == len(templates) >= 5
    found = class_captions(CLOTHES, templates)
    assert [len(own) for own in found] == [len(templates)] * len(CLOTHES)
    sentences = [sentence for own in found for sentence in own]
    assert len(set(sentences)) == len(sentences) and all("{" not in sentence for sentence in sentences)
    assert [clean(sentence) for sentence in sentences] == [sentence.lower() for sentence in sentences]


def test_classes_that_would_sound_alike_keep_their_names():
    assert class_captions(("top/left", "top/right"), ("a {}",)) == [["a top/left"], ["a top/right"]]
    with pytest.raises(CondgenError, match="Two classes"):
        class_captions(("cat", "cat"), ("a {}",))


@pytest.mark.parametrize("templates", [(), ("a cat",), ("{} and {}",)])
def test_a_template_has_one_gap(templates):
    with pytest.raises(CondgenError, match="template"):
        class_captions(("dog",), templates)
