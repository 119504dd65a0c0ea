"""The explorer: a page on which one drags a machine and sees what it does to speed, price and energy."""
