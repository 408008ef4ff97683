"""Files that users attach to their messages: kept, read in a process apart, given to the model."""
