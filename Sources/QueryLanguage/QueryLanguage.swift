/// `QueryLanguage`: see ARCHITECTURE.md.
