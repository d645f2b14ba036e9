/// `Evaluation`: see ARCHITECTURE.md.
