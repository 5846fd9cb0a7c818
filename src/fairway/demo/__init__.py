"""A data set to look at: people, channels and packages of a company and a research group that do not exist."""
