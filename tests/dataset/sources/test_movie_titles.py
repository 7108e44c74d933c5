from __future__ import annotations

import polars as pl
import pytest

from moerec.dataset.sources.movie_titles import article_in_front, clean_titles, split_year


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Seven (Se7en) (1995)", "Seven (Se7en)", 1995),
        ("Associate, The (L'Associe)(1982)", "Associate, The (L'Associe)", 1982),
        ("Land Before Time III (1995) (V)", "Land Before Time III", 1995),
        ("Twice (1982) (1992) ", "Twice (1982)", 1992),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Going On (2006\u2013 )", "Going On", 2006),
        ("No year", "No year", None),
        ("Seven (Se7en)", "Seven (Se7en)", None),
    ],
)
def test_the_year_stands_apart(raw: str, title: str, year: int | None) -> None:
    assert split_year(raw) == (title, year)


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("Full Monty, The", "The Full Monty"),
        ("Fish Called Wanda, A", "A Fish Called Wanda"),
        ("Horseman on the Roof, The (Hussard sur le toit, Le)", "The Horseman on the Roof (Le Hussard sur le toit)"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Wonderful, Horrible Life, The", "The Wonderful, Horrible Life"),
        ("Maybe, Maybe Not (Bewegte Mann, Der)", "Maybe, Maybe Not (Der Bewegte Mann)"),
        ("Postino, Il (The Postman)", "Il Postino (The Postman)"),
        ("Cook, The Thief, His Wife", "Cook, The Thief, His Wife"),
        ("Hello,   Dolly!", "Hello, Dolly!"),
        ("The Boat", "The Boat"),
    ],
)
def test_the_article_stands_in_front_and_stays_there(raw: str, title: str) -> None:
    assert article_in_front(raw) == title
    assert article_in_front(title) == title


def test_a_filler_is_null_and_a_film_called_unknown_is_not() -> None:
    titles = pl.Series(["unknown", "Unknown (2011)", None, "", "Fargo (1996)"])
    assert clean_titles(titles).rows() == [(None, None), ("Unknown", 2011), (None, None), (None, None), ("Fargo", 1996)]


def test_years_of_their_own_column() -> None:
    titles = pl.Series(["Full Monty, The", "unkonwn", "Land III (1995)", "Twice (1982)"])
    years = pl.Series(["1997", "unkonwn", "V", "1992"])
    assert clean_titles(titles, years).rows() == [
        ("The Full Monty", 1997),
        (None, None),
        ("Land III", 1995),
        ("Twice (1982)", 1992),
    ]
