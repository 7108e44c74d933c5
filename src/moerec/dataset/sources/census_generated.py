"""Generated people in the lines of Census-Income, with planted structure.

What a right model must find: that income above 50,000 grows with education, with weeks worked and up to the middle of
life with age, and comes with dividends; that who never married is young, files taxes alone and has no spouse at home.
The two tasks pull in opposite directions through age. All other attributes are drawn at random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from moerec.dataset.sources.census_layout import FIELDS, HIGH, LOW, MARITAL_STATES, NEVER_MARRIED, NOT_KNOWN

EDUCATION = (
    "7th and 8th grade",
    "High school graduate",
    "Some college but no degree",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Doctorate degree(PhD EdD)",
)
"""From the shortest on."""
NO, YES = "No", "Yes"
OUTSIDE = "Not in universe"
RANDOM = {
    "class_of_worker": (OUTSIDE, "Private", "Local government", "Self-employed-not incorporated"),
    "detailed_industry_recode": ("0", "4", "33", "43", "45"),
    "detailed_occupation_recode": ("0", "2", "10", "26", "36"),
    "enroll_in_edu_inst_last_wk": (OUTSIDE, "High school", "College or university"),
    "major_industry_code": ("Not in universe or children", "Retail trade", "Education", "Construction"),
    "major_occupation_code": (OUTSIDE, "Sales", "Other service", "Professional specialty"),
    "race": ("White", "Black", "Other"),
    "hispanic_origin": ("All other", "Mexican-American", "Cuban"),
    "sex": ("Female", "Male"),
    "member_of_a_labor_union": (OUTSIDE, NO, YES),
    "reason_for_unemployment": (OUTSIDE, "Re-entrant", "Job leaver"),
    "full_or_part_time_employment_stat": ("Full-time schedules", "Not in labor force"),
    "region_of_previous_residence": (OUTSIDE, "South", "West"),
    "state_of_previous_residence": (OUTSIDE, "California", "Utah"),
    "migration_code_change_in_msa": (NOT_KNOWN, "Nonmover", "MSA to MSA"),
    "migration_code_change_in_reg": (NOT_KNOWN, "Nonmover", "Same county"),
    "migration_code_move_within_reg": (NOT_KNOWN, "Nonmover", "Same county"),
    "live_in_this_house_1_year_ago": ("Not in universe under 1 year old", YES, NO),
    "migration_prev_res_in_sunbelt": (NOT_KNOWN, OUTSIDE, NO),
    "num_persons_worked_for_employer": tuple("0123456"),
    "family_members_under_18": (OUTSIDE, "Both parents present", "Mother only present"),
    "country_of_birth_father": ("United-States", "Mexico", NOT_KNOWN),
    "country_of_birth_mother": ("United-States", "Mexico", NOT_KNOWN),
    "country_of_birth_self": ("United-States", "Mexico", NOT_KNOWN),
    "citizenship": ("Native- Born in the United States", "Foreign born- Not a citizen of U S"),
    "own_business_or_self_employed": tuple("012"),
    "fill_inc_questionnaire_for_veterans_admin": (OUTSIDE, NO, YES),
    "veterans_benefits": tuple("012"),
    "year": ("94", "95"),
}
"""What attributes without meaning here are drawn from."""


def census_lines(rows: int, seed: int) -> list[str]:
    """So many lines in the form of the published files."""
    draw = np.random.default_rng(seed)
    age, school = draw.integers(16, 90, rows), draw.integers(0, len(EDUCATION), rows)
    weeks = np.where(draw.random(rows) < 0.4, 0, draw.integers(1, 53, rows))
    dividends = np.where(draw.random(rows) < 0.8, 0, np.round(draw.lognormal(6, 1.5, rows))).astype(np.int64)
    is_high = draw.random(rows) < expit(
        1.1 * (school - 3.5) + 0.06 * (weeks - 35) - ((age - 50) / 18) ** 2 + 1.5 * (dividends > 0)
    )
    is_single = draw.random(rows) < expit((34 - age) / 6)
    states = draw.choice(MARITAL_STATES[1:], rows)
    # Three of four file as they live; the others blur it.
    joint = np.where(draw.random(rows) < 0.75, ~is_single, draw.random(rows) < 0.5)
    columns: dict[str, NDArray[np.generic]] = {name: draw.choice(values, rows) for name, values in RANDOM.items()} | {
        "age": age,
        "education": np.array(EDUCATION)[school],
        "wage_per_hour": np.where(draw.random(rows) < 0.9, 0, draw.integers(400, 3000, rows)),
        "marital_stat": np.where(is_single, NEVER_MARRIED, states),
        "capital_gains": np.where(draw.random(rows) < 0.95, 0, draw.integers(100, 99999, rows)),
        "capital_losses": np.where(draw.random(rows) < 0.97, 0, draw.integers(100, 4000, rows)),
        "dividends_from_stocks": dividends,
        "tax_filer_stat": np.where(joint, "Joint both under 65", "Single"),
        "detailed_household_and_family_stat": np.where(joint, "Spouse of householder", "Nonfamily householder"),
        "detailed_household_summary_in_household": np.where(joint, "Spouse of householder", "Householder"),
        "instance_weight": np.round(draw.uniform(50, 5000, rows), 2),
        "weeks_worked_in_year": weeks,
        "income": np.where(is_high, HIGH, LOW),
    }
    return [", ".join(fields) for fields in zip(*(columns[name].astype(str) for name in FIELDS), strict=True)]
