"""Where rows are. `engine` opens transactions and is the only module that commits; `models` is the schema."""
