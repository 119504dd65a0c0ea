"""What other methods say of the same rows: rooflines, a random forest, AIConfigurator."""
