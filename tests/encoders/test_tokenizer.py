"""What a tokenizer reads of a text: known words survive, unknown ones are named, in any writing."""

import unicodedata
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condgen.contracts import CondgenWarning
from condgen.encoders.tokenizer import (
    CONTEXT,
    END,
    FUNCTION_WORDS,
    MAX_GUESSED_CONTEXT,
    Tokenizer,
    _untrained,
    words_of,
)
from condgen.text import clean, read_texts, warn_of_texts

COLOURS, FLOWERS = ("red", "blue", "white", "yellow"), ("rose", "tulip", "daisy")
CAPTIONS = [f"a photo of a {colour} {flower}" for colour in COLOURS for flower in FLOWERS]
WORLD = {
    "Russian": ["красный кот на столе", "синяя собака"],
    "Greek": ["κόκκινη γάτα", "μπλε σκύλος"],
    "Arabic": ["قطة حمراء", "كلب أزرق"],
    "Hebrew": ["חתול אדום", "כלב כחול"],
    "Hindi": ["लाल बिल्ली", "नीला कुत्ता"],
    "Thai": ["แมวสีแดง", "หมาสีน้ำเงิน"],
    "Chinese": ["红色的猫在桌子上", "蓝色的狗在沙发上"],
    "Japanese": ["赤い猫が机の上にいる", "青いクレヨン"],
    "Korean": ["빨간 고양이가 있다", "파란 개가 있다"],
    "Burmese": ["ကြောင်အနီ", "ခွေးအပြာ"],
}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CAPTIONS)


def first_edition(captions=CAPTIONS, context=0) -> Tokenizer:
    """A tokenizer as models of the first edition have it."""
    from tokenizers import trainers

    captions = [clean(text) for text in captions]
    backend = _untrained(first_edition=True)
    marks = ["<pad>", "<unknown>", "<end>"]
    backend.train_from_iterator(captions, trainers.BpeTrainer(special_tokens=marks, show_progress=False))
    longest = max(len(one.ids) for one in backend.encode_batch(list(captions)))
    return Tokenizer(backend, context or longest + 1, {word for text in captions for word in text.split()})


def notes_of(tokenizer, *texts: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_texts(tokenizer, texts)
    return [str(one.message) for one in caught]


# Unknown words ----------------------------------------------------------------------------------------------------


ADJECTIVES = ["pink", "beautiful", "wonderfully", "xxl", "naïve", "zzz" * 12, "розовая"]


@pytest.mark.parametrize("edition", ["first", "present", "present, no room"])
@pytest.mark.parametrize("unknown", ADJECTIVES)
def test_unknown_words_delete_no_known_ones(edition, unknown):
    tokenizer = first_edition() if edition == "first" else Tokenizer.train(CAPTIONS, 7 if "room" in edition else 0)
    for flower in FLOWERS:
        for text in (f"a photo of a {unknown} {flower}", f"{unknown} {unknown} {unknown} a {flower} {unknown}"):
            read = tokenizer.read(text)
            assert flower in words_of(read.text) and read.unread == (unknown,) and read.cut is None
            assert (tokenizer.encode([read.text]) == tokenizer.encode([read.text + " rose rose rose"])).sum() > 1
            assert tokenizer.backend.token_to_id(flower) in tokenizer.encode([read.text])[0]
            (note,) = notes_of(tokenizer, text)
            how = "read letter by letter" if unknown in read.spelled else "not read"
            assert f"{how}: {unknown}" in note and (unknown not in read.text or unknown in read.spelled)


def test_texts_of_known_words_are_encoded_as_they_are(tokenizer):
    assert read_texts(tokenizer, CAPTIONS) == CAPTIONS and notes_of(tokenizer, *CAPTIONS) == []


def test_the_first_edition_reads_as_it_did_where_nothing_is_lost():
    roomy = first_edition(context=60)
    for text in [*CAPTIONS, "a pink rose", "pink", "a rose, please!"]:
        assert roomy.read(text).text == text
    assert notes_of(roomy, "a pink rose") == [
        "No training caption has these words, so they mean nothing here; read letter by letter: pink"
    ]
    assert roomy.read("a pink ♥").unread == ("pink", "♥") and roomy.read("a pink ♥").spelled == ("pink",)


def test_where_there_is_no_room_articles_go_first():
    tokenizer = Tokenizer.train([*CAPTIONS, "the tall vase in the garden"], context=6)
    read = tokenizer.read("a photo of a red rose in the tall vase")
    assert read.text == "photo red rose tall vase" and set(read.dropped) <= FUNCTION_WORDS and read.cut is None
    (note,) = notes_of(tokenizer, "a photo of a red rose in the tall vase")
    assert "left out: a, of, in, the" in note
    cut = tokenizer.read("photo red rose tall vase garden blue tulip")
    assert cut.text == "photo red rose tall vase" == cut.cut


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*COLOURS, *FLOWERS, "a", "photo", "of", "pink", "♥", "!", "猫"]), max_size=9))
def test_every_known_word_that_has_room_is_read(words):
    for tokenizer in (Tokenizer.train(CAPTIONS), Tokenizer.train(CAPTIONS, 10), first_edition(context=10)):
        text = " ".join(words)
        read = tokenizer.read(text)
        content = [word for word in words if word in (*COLOURS, *FLOWERS)]
        assert [word for word in words_of(read.text) if word in (*COLOURS, *FLOWERS)] == content
        assert (tokenizer.encode([read.text]) == END).sum() == 1


def test_close_words_are_suggested(tokenizer):
    assert notes_of(tokenizer, "two roses")[0].endswith("not read: two, roses (known: rose)")


@pytest.mark.parametrize("text", ["🐱🐶", "pink", "!!!", "♥ ♥", "猫", "кот"])
def test_prompts_of_unknown_things_alone_are_told(tokenizer, text):
    assert tokenizer.read(text).nothing
    assert any("knows no word of" in note for note in notes_of(tokenizer, text))


def test_many_texts_are_counted_and_not_quoted(tokenizer):
    notes = notes_of(tokenizer, *["a red rose"] * 10, *[f"pink {'rose ' * 100}"] * 5, "🐱")
    assert "5 of 16 texts are longer than 77 tokens" in notes[0] and "not read: pink, 🐱" in notes[1]
    assert "1 of 16 texts" in notes[2] and len(notes) == 3


# Room -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "captions, context",
    [
        (CAPTIONS, CONTEXT),
        ([*CAPTIONS * 10, " ".join(f"word{k}" for k in range(8000))], CONTEXT),
        ([" ".join(["rose"] * 100)] * 10, 101),
        ([" ".join(["rose"] * 8000)] * 10, MAX_GUESSED_CONTEXT),
        ([" ".join(["rose"] * 8000)] + [" ".join(["rose"] * 90)] * 30, 91),
        ([], CONTEXT),
    ],
)
def test_a_guessed_context_leaves_room_and_is_bounded(captions, context):
    assert Tokenizer.train(captions).context == context


def test_a_chosen_context_stays():
    assert Tokenizer.train(CAPTIONS, context=300).context == 300


# Writing of the world ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", WORLD)
def test_captions_of_any_writing_are_known(language):
    texts = WORLD[language]
    tokenizer = Tokenizer.train(texts * 5)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        for text in texts:
            text = unicodedata.normalize(form, text).upper()
            assert tokenizer.read(text).unread == () and notes_of(tokenizer, text) == []
    ids = tokenizer.encode(texts)
    assert (ids != 0).sum(1).min() > 2 and not (ids == 1).any()  # more than the end, and nothing unknown


@pytest.mark.parametrize("language", ["Thai", "Chinese", "Japanese", "Korean", "Burmese"])
def test_a_sentence_without_spaces_is_not_one_word(language):
    a, b = WORLD[language]
    edition = {True: Tokenizer.train([a, b]), False: first_edition([a, b], context=99)}
    assert edition[True].unseen(a + b) == []
    assert edition[False].unseen(a + b) == []
    foreign = edition[True].unseen("ꀀꀁ" + a + "ꀂ" if language != "Thai" else "ကခ" + a + "ဂ")
    assert len(foreign) == 2


def test_new_combinations_of_known_characters_are_read():
    tokenizer = Tokenizer.train(WORLD["Chinese"])
    assert tokenizer.read("蓝色的猫在沙发上").unread == ()
    read = tokenizer.read("粉红色的猫")
    assert read.text == "红色的猫" and read.unread == ("粉",)


def test_marks_belong_to_their_letters():
    assert words_of("लाल बिल्ली") == ["लाल", "बिल्ली"]
    assert words_of("สีแดง")[0] == "สี" and words_of("l’été") == ["l’été"]


def test_saved_and_loaded_tokenizers_split_alike(tmp_path):
    for tokenizer in (Tokenizer.train(WORLD["Chinese"]), first_edition(WORLD["Chinese"], context=20)):
        tokenizer.save(tmp_path)
        again = Tokenizer.load(tmp_path)
        assert again.splits_characters == tokenizer.splits_characters
        assert again.read("蓝色的猫") == tokenizer.read("蓝色的猫")
        assert (again.encode(WORLD["Chinese"]) == tokenizer.encode(WORLD["Chinese"])).all()


def test_warnings_are_ours(tokenizer):
    with pytest.warns(CondgenWarning, match="not read: pink"):
        warn_of_texts(tokenizer, ["pink rose"])
