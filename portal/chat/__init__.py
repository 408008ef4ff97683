"""The chat page in pieces.

    view       what one run of the page shows, asked of AL-Chat in parallel
    actions    what the user does: callbacks, each of which leaves the page to be drawn anew
    history    the sidebar: the conversations; shelves: what the tab knows of them; finding: search;
               rows: the menu at each of them
    header     title and menu of the conversation
    organise, transfers, sharing   what that menu does, with its dialogs
    messages   the history of the conversation
    answer     a finished answer: its text, and what belongs to it
    markdown   the text as it was meant: maths, money, diagrams, citations
    reasoning, tool_steps, sources, receipts   what belongs to an answer, each by itself
    problems   what goes wrong, where the answer would stand, with a next step
    composer   the input and what belongs to it
    attachments, drafts, queued, models, settings, library, tool_servers   what belongs to writing
    dictation  a recording becomes words in the input; recordings: what the tab knows of them
    toolbar, steering   the bars below the messages, and what is done there
    earlier, window, questions   a long conversation
    shortcuts  keys for what one does often
    follow     stays with the answer that is being written
    writing    draws what there is of it

Nothing is generated here: the answer is AL-Chat's, this is one of its readers. A click, a reload
or a second tab just follows again.
"""
