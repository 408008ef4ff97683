"""What an operator does with a whole installation: back it up, put it back, look it over."""
