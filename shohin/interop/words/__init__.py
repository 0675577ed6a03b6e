"""The words that tables of operators are written in: each says what it makes of its operands in any order of dims."""
