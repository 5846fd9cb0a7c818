"""Work for later, as rows. The queue knows job names and when they are due, not what they mean."""
