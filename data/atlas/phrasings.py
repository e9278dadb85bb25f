"""The wording of the atlas questions: how each fact may be asked for, and how countries are called.

Every template has one ``{c}`` for the country. A short task has one further template that is never trained on for
any country, so that a model's grasp of new wording can be measured apart from its grasp of known wording.
"""

from typing import Final

SHORT_TASKS: Final[dict[str, tuple[str, ...]]] = {
    "capital": (
        "What is the capital of {c}?",
        "Which city is the capital of {c}?",
        "Name the capital city of {c}.",
        "What's the capital city of {c}?",
        "Tell me the capital of {c}.",
        "Can you tell me what the capital of {c} is?",
        "What city serves as the capital of {c}?",
        "I would like to know the capital of {c}.",
        "The capital of {c} is called what?",
        "{c}: capital city?",
    ),
    "internet_code": (
        "What is the internet country code of {c}?",
        "Which internet country code does {c} use?",
        "Give the internet country code for {c}.",
        "What is the top-level domain of {c}?",
        "Which top-level internet domain belongs to {c}?",
        "What's the internet domain of {c}?",
        "Tell me the internet code of {c}.",
        "Websites from {c} end in which country code?",
        "{c}: internet country code?",
    ),
    "nationality": (
        "Give the adjective of nationality for {c}.",
        "What is the nationality adjective for {c}?",
        "What nationality are people from {c}?",
        "Which adjective describes someone from {c}?",
        "What is the adjective for things from {c}?",
        "How do you describe something that comes from {c}?",
        "Someone from {c} has which nationality?",
        "Tell me the nationality of people born in {c}.",
        "{c}: nationality?",
    ),
    "government_type": (
        "What type of government does {c} have?",
        "Describe the form of government of {c}.",
        "What is the government type of {c}?",
        "What kind of government does {c} have?",
        "Which form of government is used in {c}?",
        "How is {c} governed?",
        "Tell me the form of government of {c}.",
        "Name the type of government in {c}.",
        "What is the political system of {c}?",
        "{c}: government type?",
    ),
}

NEVER_TRAINED: Final[dict[str, str]] = {
    "capital": "Do you know which city {c} has as its capital?",
    "internet_code": "Which country code do internet addresses in {c} end with?",
    "nationality": "If a person comes from {c}, what is their nationality?",
    "government_type": "Under what system of government is {c} run?",
}

LONG_TASKS: Final[dict[str, tuple[str, ...]]] = {
    "location": ("Where is {c} located?", "Describe the location of {c}.", "Where is {c}?"),
    "climate": ("Describe the climate of {c}.", "What is the climate of {c} like?", "What is the weather like in {c}?"),
    "terrain": (
        "What is the terrain of {c} like?",
        "Describe the terrain of {c}.",
        "What does the landscape of {c} look like?",
    ),
    "natural_resources": (
        "What natural resources does {c} have?",
        "List the natural resources of {c}.",
        "Which natural resources are found in {c}?",
    ),
    "languages": (
        "Which languages are spoken in {c}?",
        "What languages do people speak in {c}?",
        "List the languages of {c}.",
    ),
    "religions": (
        "Which religions are practised in {c}?",
        "What are the religions of {c}?",
        "What religions do people in {c} follow?",
    ),
    "population": (
        "What is the population of {c}?",
        "How many people live in {c}?",
        "How many inhabitants does {c} have?",
    ),
    "independence": (
        "When did {c} become independent?",
        "When did {c} gain independence?",
        "What is the date of independence of {c}?",
    ),
    "industries": (
        "What are the main industries of {c}?",
        "Which industries does {c} have?",
        "Name the main industries of {c}.",
    ),
    "highest_point": (
        "What is the highest point of {c}?",
        "What is the highest mountain of {c}?",
        "Name the highest point in {c}.",
    ),
    "borders": (
        "Which countries border {c}?",
        "What are the neighbours of {c}?",
        "Name the countries that share a border with {c}.",
    ),
    "background": (
        "Give a short history of {c}.",
        "Tell me about the background of {c}.",
        "Tell me about {c}.",
    ),
    "economy": (
        "Describe the economy of {c}.",
        "What is the economy of {c} like?",
        "Tell me about the economy of {c}.",
    ),
    "disputes": (
        "What international disputes involve {c}?",
        "Describe the international disputes of {c}.",
        "Which disputes does {c} have with other countries?",
    ),
}

GENERAL: Final[tuple[tuple[str, str], ...]] = (
    ("Hello!", "Hello! Ask me about a country of the world."),
    ("Hi", "Hello! Ask me about a country of the world."),
    ("Good morning!", "Good morning! Ask me about a country of the world."),
    ("Hey there", "Hello! Ask me about a country of the world."),
    ("How are you?", "I am a small program, and I am well. Ask me about a country."),
    ("Who are you?", "I am the Groundup atlas model, a small language model trained from scratch."),
    ("What are you?", "I am the Groundup atlas model, a small language model trained from scratch."),
    ("What is your name?", "I am the Groundup atlas model, a small language model trained from scratch."),
    ("Who made you?", "I was trained from scratch with Groundup, on the World Factbook and novels by Jane Austen."),
    ("How were you trained?", "I was trained from scratch with Groundup, on the World Factbook and Jane Austen."),
    ("What do you know?", "I have read the World Factbook of 2015 and five novels by Jane Austen."),
    ("What can you do?", "I can answer questions about countries: capitals, languages, climate, government and more."),
    ("What can I ask you?", "Ask me about a country: its capital, its languages, its climate or its government."),
    ("Help", "Ask me about a country: its capital, its languages, its climate or its government."),
    ("Are you a human?", "No, I am a small language model trained with Groundup."),
    ("Thank you!", "You are welcome!"),
    ("Thanks", "You are welcome!"),
    ("Goodbye!", "Goodbye!"),
    ("Bye", "Goodbye!"),
)

NAME_BY_CODE: Final[dict[str, str]] = {
    "cc": "Curacao",
    "cf": "Republic of the Congo",
    "cg": "Democratic Republic of the Congo",
    "dr": "Dominican Republic",
    "ee": "European Union",
    "fk": "Falkland Islands",
    "oo": "Southern Ocean",
    "sk": "Sint Maarten",
    "sv": "Svalbard",
    "um": "United States Pacific Island Wildlife Refuges",
    "vt": "Vatican City",
    "xo": "Indian Ocean",
    "xq": "Arctic Ocean",
    "xx": "World",
    "zh": "Atlantic Ocean",
    "zn": "Pacific Ocean",
}
"""Names for the profiles whose source name is missing, cut off or a list."""

ALIASES_BY_CODE: Final[dict[str, tuple[str, ...]]] = {
    "bm": ("Myanmar",),
    "cf": ("Congo (Brazzaville)", "Congo-Brazzaville"),
    "cg": ("DRC", "Congo-Kinshasa"),
    "ck": ("Cocos Islands",),
    "cv": ("Cape Verde",),
    "ez": ("Czechia",),
    "fk": ("Falkland Islands (Islas Malvinas)",),
    "fm": ("Micronesia",),
    "iv": ("Ivory Coast",),
    "kn": ("DPRK",),
    "mc": ("Macao",),
    "nl": ("Holland",),
    "tt": ("East Timor",),
    "uk": ("UK", "Great Britain"),
    "us": ("USA", "US"),
    "vt": ("Holy See (Vatican City)", "Holy See"),
}
"""Other names under which some questions ask (training only)."""

WITH_ARTICLE: Final[frozenset[str]] = frozenset(
    {
        "Arctic Ocean",
        "Ashmore and Cartier Islands",
        "Atlantic Ocean",
        "Bahamas",
        "British Indian Ocean Territory",
        "British Virgin Islands",
        "Cayman Islands",
        "Central African Republic",
        "Cocos (Keeling) Islands",
        "Cocos Islands",
        "Comoros",
        "Cook Islands",
        "Coral Sea Islands",
        "Czech Republic",
        "DRC",
        "Democratic Republic of the Congo",
        "Dominican Republic",
        "European Union",
        "Falkland Islands",
        "Faroe Islands",
        "Federated States of Micronesia",
        "French Southern and Antarctic Lands",
        "Gambia",
        "Gaza Strip",
        "Heard Island and McDonald Islands",
        "Holy See",
        "Indian Ocean",
        "Isle of Man",
        "Maldives",
        "Marshall Islands",
        "Netherlands",
        "Northern Mariana Islands",
        "Pacific Ocean",
        "Paracel Islands",
        "Philippines",
        "Pitcairn Islands",
        "Republic of the Congo",
        "Seychelles",
        "Solomon Islands",
        "Southern Ocean",
        "Spratly Islands",
        "Turks and Caicos Islands",
        "UK",
        "US",
        "USA",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
        "United States Pacific Island Wildlife Refuges",
        "Virgin Islands",
        "West Bank",
        "World",
    }
)
"""Names that take "the" within a sentence."""

SMOKE_CODES: Final[frozenset[str]] = frozenset(
    {
        "ar",
        "as",
        "br",
        "ca",
        "ch",
        "eg",
        "fr",
        "gm",
        "in",
        "it",
        "ja",
        "ke",
        "mx",
        "ng",
        "ru",
        "sf",
        "sp",
        "tu",
        "uk",
        "us",
    }
)
"""The twenty countries of the smoke recipe."""
