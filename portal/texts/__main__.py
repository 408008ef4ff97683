"""`python -m portal.texts`: brings the catalogues in line with the code."""

from portal.texts import LANGUAGES
from portal.texts.catalogues import TRANSLATED, update

for language in TRANSLATED:
    untranslated, dropped = update(language)
    print(f"{LANGUAGES[language]}: {untranslated} to translate, {dropped} dropped")
