"""The own database of AL-Chat: tables, engine, migrations."""
