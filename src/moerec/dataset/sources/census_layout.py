"""The lines of Census-Income (KDD): 42 fields, of which 40 describe a person, one is a weight, the last the income."""

from __future__ import annotations

ATTRIBUTES = (
    "age",
    "class_of_worker",
    "detailed_industry_recode",
    "detailed_occupation_recode",
    "education",
    "wage_per_hour",
    "enroll_in_edu_inst_last_wk",
    "marital_stat",
    "major_industry_code",
    "major_occupation_code",
    "race",
    "hispanic_origin",
    "sex",
    "member_of_a_labor_union",
    "reason_for_unemployment",
    "full_or_part_time_employment_stat",
    "capital_gains",
    "capital_losses",
    "dividends_from_stocks",
    "tax_filer_stat",
    "region_of_previous_residence",
    "state_of_previous_residence",
    "detailed_household_and_family_stat",
    "detailed_household_summary_in_household",
    "migration_code_change_in_msa",
    "migration_code_change_in_reg",
    "migration_code_move_within_reg",
    "live_in_this_house_1_year_ago",
    "migration_prev_res_in_sunbelt",
    "num_persons_worked_for_employer",
    "family_members_under_18",
    "country_of_birth_father",
    "country_of_birth_mother",
    "country_of_birth_self",
    "citizenship",
    "own_business_or_self_employed",
    "fill_inc_questionnaire_for_veterans_admin",
    "veterans_benefits",
    "weeks_worked_in_year",
    "year",
)
"""The attributes of a person, named as the publisher's documentation names them."""

NUMBERS = (
    "age",
    "wage_per_hour",
    "capital_gains",
    "capital_losses",
    "dividends_from_stocks",
    "num_persons_worked_for_employer",
    "weeks_worked_in_year",
)
"""The attributes that are numbers; all others are names or codes."""

WEIGHT, INCOME, MARITAL = "instance_weight", "income", "marital_stat"
FIELDS = (*ATTRIBUTES[:24], WEIGHT, *ATTRIBUTES[24:], INCOME)
"""The fields of a line. The weight says how many people a person stands for, and is no attribute."""

NOT_KNOWN = "?"
"""What stands where nothing is known; older questionnaires did not ask everything."""

LOW, HIGH = "- 50000.", "50000+."
"""Income up to 50,000 dollars a year, and above."""

NEVER_MARRIED = "Never married"
MARITAL_STATES = (
    NEVER_MARRIED,
    "Married-civilian spouse present",
    "Married-spouse absent",
    "Married-A F spouse present",
    "Separated",
    "Divorced",
    "Widowed",
)
