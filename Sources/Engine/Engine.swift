/// `Engine` is the one place where data and numbers meet: it reads an engine's YAML, keeps the fold of
/// its tables, trains its models beside serving, publishes generations by one swap and answers queries.
///
/// It knows nothing of HTTP, of terminals or of simulators; those stand above it.
