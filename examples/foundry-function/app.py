"""An answering machine on Palantir's `foundry-compute-modules`, as it would be written for their platform. It knows of no telephone."""

from compute_modules.annotations import function


@function
def on_start(context, event):
    return "Hello, this is the bakery. What can I do for you?"


@function(streaming=True)
def on_final(context, event):
    words = event["text"].lower()
    if "open" in words:
        yield "We open at seven, "
        yield "every day but Sunday."
    elif "bye" in words:
        yield {"type": "say", "text": "Goodbye."}
        yield {"type": "hangup", "after": "playback"}
    else:
        yield {"type": "event", "name": "not.understood", "data": {"text": event["text"]}}
        yield "I can tell you when we open."


@function
def on_key(context, event):
    return f"You pressed {event['digit']}."


@function
def on_end(context, event):
    return {"type": "event", "name": "summary", "data": {"turns": event["turn"], "last": event["history"][-1:]}}
