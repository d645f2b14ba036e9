/// `Ingest`: see ARCHITECTURE.md.
