"""The dashboard in pieces.

attention    what wants something of the user: keys that fail or run out, budgets, backups
first_steps  what a newcomer does first; gone once done
health       how a project is doing, as this user experiences it
recent       the latest conversations, and the answers that are being written
spending     what was spent this month, against the budgets there are
"""
