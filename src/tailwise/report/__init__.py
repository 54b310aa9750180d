"""What people look at: figures, the HTML report, spreadsheets, the model card."""
