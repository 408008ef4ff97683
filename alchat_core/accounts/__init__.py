"""The end of an account: all that AL-Chat has of a user is deleted."""
