"""The chat page: a conversation, the way to write in it, and the answer that is being written."""

from portal import chat_view
from portal.session import require_user

user = require_user("projects:launch")

view = chat_view.load()
chat_view.show_conversations(view)
dialog_is_open = chat_view.show_header(view)
place = chat_view.show_messages(user, view)
chat_view.show_composer(view)

# Last on the page: this waits until the answer is finished. Under a dialog it must not, since
# nothing in a dialog is heard before the script has ended.
if view.active is not None and place is not None:
    if dialog_is_open:
        chat_view.show_so_far(view.active, place)
    else:
        chat_view.follow(view.active, place)
