/// `QueryEngine`: see ARCHITECTURE.md.
