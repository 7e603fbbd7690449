"""The fast path: what is wholly ordinary is sent, and its replies shown, without a handler for each message.

What is not is left where it is, and nothing done: the handlers do the same for the same messages, at more cost. Nothing is taken
while anything is pending (``Pending.nothing``).

    whole_groups     Bind, perhaps Describe, Execute and Sync of a prepared statement, and their replies
    simple_queries   a simple Query of a shape that was seen, and its replies
    runs             messages one behind the other, these two among them
"""
