"""The words of generated products and reviews, by category, quality and rating."""

from __future__ import annotations

THINGS = {
    "All_Beauty": ("hand cream", "shampoo", "lip balm", "face mask", "hair brush", "nail polish"),
    "Office_Products": ("notebook", "stapler", "desk lamp", "fountain pen", "file folder", "whiteboard"),
    "Pet_Supplies": ("dog leash", "cat litter", "bird cage", "fish tank", "chew toy", "pet bed"),
    "Toys_and_Games": ("board game", "jigsaw puzzle", "toy train", "teddy bear", "card game", "building set"),
}
"""Categories, as in the names of the published files, and what belongs to them."""
BRANDS = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel")
QUALITIES = (
    ("budget", "simple", "thin"),
    ("classic", "everyday", "standard"),
    ("premium", "sturdy", "handmade"),
)
"""From low to high quality."""
SENTENCES = (
    "Light and cheaply made; it will not last for years.",
    "Made for daily use.",
    "Made of the best materials and tested by hand.",
)
"""Of a description, from low to high quality."""
TITLES = (
    ("Do not buy this", "A waste of money", "Broke at once"),
    ("Disappointed", "Expected more", "Not what I hoped for"),
    ("It is okay", "Average", "So so"),
    ("Good", "I like it", "Nearly perfect"),
    ("Five Stars", "Love it!", "Could not be better"),
)
"""Of a review, from one star to five."""
VERDICTS = (
    "This {thing} is terrible, I sent it back.",
    "This {thing} has too many faults for me.",
    "This {thing} does what it should and no more.",
    "This {thing} is good, with one small flaw.",
    "This {thing} is wonderful, I will buy it again.",
)
"""Of a review, from one star to five."""
FOND = "I can never have enough of {category}."
INDIFFERENT = "I do not care much for {category}."
TOO_DEAR = "It costs more than I like to pay."
TOO_CHEAP = "I would rather pay more and get more."
ASIDES = ("It came on a Tuesday.", "My sister has the same one.", "The box was a bit dented.", "Bought it as a gift.")
