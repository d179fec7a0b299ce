"""Renders the cards in hub_cards/ anew, after the template or the catalogue of data sets changed.

python recipes/cards.py
"""

from topolora_hf.hub.named_cards import cards_main

if __name__ == "__main__":
    cards_main()
