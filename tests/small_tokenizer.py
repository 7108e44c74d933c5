"""A tokenizer of words and letters, made here: one id each, so that lengths are easy to tell."""

from __future__ import annotations

import string

from moerec.modalities.text_tokenizer import TextTokenizer

WORDS = ("good", "bad", "book", "the", "it")


def small_tokenizer(special: bool = True, extra: int = 0, by_words: bool = True) -> TextTokenizer:
    """WordPiece over a few words, letters and digits.

    Args:
        by_words: split at blanks and punctuation as BERT does; else at punctuation alone.
        special: put [CLS] and [SEP] around a text.
        extra: ids that no text uses, to make the vocabulary large.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{c}" for c in letters), *".,!?<>[]"]
    pieces += [f"unused {number}" for number in range(extra)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer() if by_words else pre_tokenizers.Punctuation()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.add_special_tokens([AddedToken("<SENT>", special=True, normalized=False)])
    return TextTokenizer(
        name="small",
        definition=tokenizer.to_str(),
        prefix=(2,) if special else (),
        suffix=(3,) if special else (),
        padding=0,
        marker=tokenizer.token_to_id("<SENT>"),
        vocabulary=len(pieces) + 1,
        longest=512,
    )
