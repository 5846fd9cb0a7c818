"""What Fairway does: functions over rows and blobs. No HTTP, no settings, no clock: what they need is handed to them."""
