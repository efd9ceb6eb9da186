"""What a study found: tables, figures, a page, recommendations."""
