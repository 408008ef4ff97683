"""What answers cost: tokens from the provider, prices from a library, and the report to Papita."""
