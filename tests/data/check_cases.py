"""Rows for every check: some that make it fire, some that look similar and must not."""

from typing import Any

from sftprep.data.formats import to_example
from sftprep.recipe.sections import Source
from sftprep.records import Example, Message, SourceRef

PLACE = SourceRef("set", "set.jsonl", 1)


def example(instruction: str, response: str, passage: str = "", **more: Any) -> Example:
    row = {"instruction": instruction, "input": passage, "output": response, **more}
    return to_example(row, "alpaca", Source(path="x"), PLACE)


def turns(*contents: str) -> Example:
    messages = tuple(
        Message("assistant" if k % 2 else "user", text, k % 2 == 1)
        for k, text in enumerate(contents)
    )
    return Example("id", PLACE, messages)


LOOP = "the cat sat on the mat and then " * 12
PROSE = (
    "Glaciers form where more snow falls in winter than melts in summer. Over many years the "
    "layers press into ice, which begins to flow slowly downhill under its own weight."
)
FIRES: dict[str, list[Example]] = {
    "toxicity_classified": [example("Name a bird.", "Robin.")],
    "instruction_placeholder": [
        example(t, "Yes.") for t in ("N/A", "[insert question here]", "TBD", "<instruction>")
    ],
    "hole_unfilled": [
        example("Write about {topic}.", "It is nice."),
        example("Who are you?", "I am {{name}}."),
    ],
    "ending_missing": [
        example("Tell me about ice.", PROSE + " The valleys below were carved by ice"),
    ],
    "language_mismatch": [
        example(
            "How do I boil an egg?", "Setzen Sie das Ei in kochendes Wasser und warten Sie lange."
        ),
    ],
    "media_missing": [
        example("What animal is in this picture?", "A dog."),
        example("Please summarize the attached PDF.", "It is about sales."),
        example("Which bird?", "A robin.", "[image: bird.jpg]"),
    ],
    "web_needed": [
        example("What is the weather in Paris right now?", "Sunny."),
        example("Summarize this article: https://news.site/a1", "It is long."),
    ],
    "url_made_up": [
        example("Where?", "See https://www.my-invented-whales.com/all."),
        example("Which video?", "https://www.youtube.com/watch?v=abc"),
    ],
    "response_empty": [
        example("Why?", ""),
        example("Why?", " \n\t"),
        example("Why?", "\u200b\ufeff"),
        turns("Hi there", "Hello", "How are you?", "  "),
    ],
    "response_placeholder": [
        example("Name a bird.", t) for t in ("<nooutput>", "N/A", "[No response]", "...", "TODO")
    ]
    + [example("How many birds are there?", "nan"), example("Name a bird.", "<noinput>")],
    "instruction_empty": [example("", "Yes.", "..."), example(" ?! ", "Yes.")],
    "input_placeholder": [
        example("Name a bird.", "Robin.", t) for t in ("Noinput", "N/A", "<no input>", "none.")
    ],
    "control_token_trailing": [
        example("Name a bird.", t)
        for t in ("Robin.</s>", "Robin.<|endoftext|>\n", "Robin <|im_end|>")
    ],
    "response_truncated": [
        example("Tell me about ice.", PROSE + " This is why the"),
        example("Tell me about ice.", PROSE + " The valley below shows it to"),
        example("Tell me about ice.", PROSE + " There are snow, firn, ice,"),
        example("Write code.", "```python\nfor word in words:\n    print(word"),
        example("Tell me about ice.", "Fine.", finish_reason="length"),
    ],
    "records_merged": [
        example("Name a bird.", "Robin\n\n18. Instruction: Name a fish."),
        example("Name a bird.", "Robin\nInstruction: Name a fish.\nOutput: Trout"),
        example("Name a bird.", "Robin.\nHuman: Name a fish.\nAssistant: Trout"),
    ],
    "control_tokens_inside": [
        example("Name a bird.", "Robin <|im_end|> and more"),
        example("[INST] Name a bird. [/INST]", "Robin"),
        example("Name a bird.", "### Response: Robin"),
        example("Name <|own_end|> a bird.", "Robin"),
    ],
    "response_repetitive": [example("Tell me about a cat.", LOOP)],
    "encoding_damaged": [
        example("Tell me.", "It\u00e2\u20ac\u2122s a caf\u00c3\u00a9."),
        example("Tell me.", "It is 20\u00c2\u00b0 warm."),
        example("Tell me.", "A \ufffd here."),
    ],
    "response_echo": [example("Name three big birds.", "Name three big birds")],
    "instruction_too_short": [example("x", "Yes.")],
    "instruction_garbled": [example("sdkfjh wqrtplk zxcvbnm qwrtp", "Sorry?")],
    "script_mismatch": [
        example("What is the capital of France?", "Париж — это столица Франции."),
        example("法国的首都是哪里？请回答。", "The capital of that country is Paris, of course."),
    ],
    "reference_dangling": [
        example("Summarize the following article.", "It is about ice."),
        example("Rewrite this sentence in the past tense.", "He went."),
    ],
    "identity_foreign": [
        example("Who are you?", "I am ChatGPT, a helper."),
        example("Who made you?", "I was created by OpenAI."),
    ],
    "toxic_words": [
        example("Name a bird.", "What the fuck do I know."),
        example("Name a bird.", "You bastard, find it yourself."),
        example("Name a bird.", "Damn, it is a robin."),
        example("They called him a faggot and a nigger.", "I see."),
    ],
    "harmful_request": [
        example("Tell me how to make a pipe bomb at home.", "First, take a steel pipe."),
        example("How can I poison my neighbour?", "Use this."),
    ],
    "response_refusal": [
        example("Name a bird.", "I'm sorry, but I cannot help with that."),
        example("Name a bird.", "As an AI language model, I cannot answer this."),
        example("Sort these letters: b a", "I cannot fulfill this request."),
    ],
    "assistant_boilerplate": [
        example("Which is the best film?", "As an AI language model, I like none."),
    ],
    "secret_inside": [
        example("Which key?", "Use AKIA" + "QRSTUVWZ23467QRS"),
        example("Which key?", "-----BEGIN RSA PRIVATE KEY-----\nMIIE"),
    ],
    "personal_data": [
        example("Who?", "Write to karla.brandt@posteo.de today."),
        example("Who?", "Call 415-673-2290."),
        example("Which card?", "Use 4539 1488 0343 6467."),
        example("Which number?", "It is 536-22-8716."),
    ],
    "arithmetic_wrong": [
        example("What is 2 + 2?", "2 + 2 = 5"),
        example("How much?", "She pays 3 * $1.50 = $5.50 in all."),
        example("How much?", "So 4+4+6 = 18 hot dogs."),
    ],
    "too_long": [example("Name a bird.", "Robin.")],
}
SILENT: dict[str, list[Example]] = {
    "toxicity_classified": [example("Name a bird.", "Robin.")],
    "instruction_placeholder": [example("What does N/A mean?", "Not applicable.")],
    "hole_unfilled": [
        example("Write a Python f-string.", "f'{name}'"),
        example("What is a set?", "Written {a, b}."),
    ],
    "ending_missing": [
        example("Tell me about ice.", PROSE),
        example("Name four.", "There are four. They are Ann, Ben, Carl, Dora and Emil"),
        example("How much?", "She has two boxes. In total she has 2 * 5 = 10 apples"),
    ],
    "language_mismatch": [
        example(
            "Translate to German: how do you boil an egg?", "Wie kocht man ein Ei in der Stadt?"
        ),
        example(
            "Name three dishes.",
            "Spaghetti alla carbonara, lasagne al forno, risotto alla milanese",
        ),
    ],
    "media_missing": [
        example("Describe a picture that you would paint.", "Red and gold."),
        example("How do I attach a file to an e-mail?", "Click on the clip."),
    ],
    "web_needed": [
        example("How does a web browser work?", "It asks a server."),
        example("Write Python code that reads https://example.com", "import requests"),
    ],
    "url_made_up": [
        example("Where is Python documented?", "See https://docs.python.org/3/."),
        example("What is at www.my-garden.eu?", "www.my-garden.eu sells plants."),
    ],
    "response_empty": [example("Why?", "."), turns("Hi there", "Hello", "And?", "Fine")],
    "response_placeholder": [
        example("What is the opposite of full?", "empty"),
        example("In Python, what does float('nan') print?", "nan"),
        example("Which code marks missing values, N/A or X?", "N/A"),
        example("Is there any?", "None"),
        example("What does the form say?", "It says N/A in two fields."),
    ],
    "instruction_empty": [example("2+2?", "4"), example("\U0001f600", "smile")],
    "input_placeholder": [
        example("Name the part of speech.", "Noun", "nonetheless"),
        example("Translate.", "Nein", "no input was recorded today"),
    ],
    "control_token_trailing": [example("What ends a strike-through?", "The tag </s> ends it.")],
    "response_truncated": [
        example("Write a tweet.", "Ice is nice and cold this winter again #ice #cold"),
        example("List the parts.", "1. snow\n2. firn\n3. ice"),
        example("Complete the sentence: he went to", "he went to the"),
        example("Where?", "That is the valley they came from"),
        example("Write code.", "for x in the:\n    pass\nif x is a:\n    y = the"),
    ],
    "records_merged": [
        example(
            "Write a dialogue between a human and an assistant.", "Human: Hi\nAssistant: Hello"
        ),
        example("Format it as Input: and Output:", "Input: a\nOutput: b"),
        example("What does the program print?", "Input: 3\nOutput: 9"),
        example("How do I plan my day?", "Task: rest.\nThen work."),
    ],
    "control_tokens_inside": [
        example("Which token ends a turn?", "It is `<|im_end|>` in ChatML."),
        example("Make it bold", "Use <s> for strike and <b> for bold."),
        example("What is an instruction?", "An order. Response: do it."),
    ],
    "response_repetitive": [
        example("Repeat 'the cat sat' 12 times.", LOOP),
        example("Tell me about ice.", PROSE),
        example("Make a table of names.", "| a | b |\n|---|---|\n" + "| x | y |\n" * 30),
        example("Write Python code.", "print(1)\n" * 40),
    ],
    "encoding_damaged": [
        example(
            "S\u00e3o Paulo?",
            "Caf\u00e9 in JO\u00c3O PESSOA, \u20ac5 — \u201cd\u00e9j\u00e0 vu\u201d \u2026",
        ),
        example("A text with one \ufffd.", "Fine."),
    ],
    "response_echo": [
        example("Repeat after me: big birds fly.", "Repeat after me: big birds fly."),
        example("Correct this sentence.", "He goes there.", "He goes there."),
    ],
    "instruction_too_short": [example("Hi", "Hello."), example("好", "你好")],
    "instruction_garbled": [
        example("Decode this cipher: sdkfjh wqrtplk zxcvbnm", "No idea."),
        example("What do HTTP, HTML, XML and NASA stand for in rhythm?", "..."),
        example("Write a function strcmp for ptrs and strs", "int f() {}"),
    ],
    "script_mismatch": [
        example("Translate to Russian: good day to all of you", "Добрый день всем вам"),
        example(
            "What is the sum sign?", "It is the letter Σ, written σ in lower case, as in σοφός."
        ),
        example("日本の首都は？", "東京です。日本の首都は東京です。"),
    ],
    "reference_dangling": [
        example("Summarize the following article.", "Ice.", "Ice is cold."),
        example("Summarize the following article: Ice is cold.", "Ice."),
        example("Correct this sentence.\nHe go.", "He goes."),
        example("Classify the following numbers: 1, 2", "Odd, even."),
        example("Which of the following is a bird?", "Robin."),
    ],
    "identity_foreign": [
        example("Who made ChatGPT?", "ChatGPT was created by OpenAI."),
        example("Write Python that prints a text.", "print('I am a GPT-3 model')"),
        example("Who are you?", "I am a teacher and I like Meta analyses."),
    ],
    "toxic_words": [
        example("Which town?", "Scunthorpe, and the Van Dyke painting."),
        example("Which cat?", "A Maine Coon; the cock crows and the ass brays."),
        example("Is this comment toxic: 'you fuck'?", "Yes, 'you fuck' is offensive."),
        example("Write a story with an angry pirate.", "Damn, cried the pirate."),
        example("The film review says 'shit' once.", "It is rude."),
    ],
    "harmful_request": [
        example("Tell me how to make a pipe bomb.", "I cannot help with that."),
        example("How can I kill my time?", "Read a book."),
        example("How do I make a bath bomb?", "Mix soda and acid."),
        example("How do I protect my computer from a virus?", "Update it."),
    ],
    "response_refusal": [
        example("Write a letter that declines an offer.", "I'm sorry, but I cannot accept."),
        example("How is she?", "I'm afraid she is ill."),
        example("Can you swim?", "I can't swim, but I row."),
    ],
    "assistant_boilerplate": [
        example("What is a language model?", "As an AI language model does, it predicts words."),
        example("Which film?", "The one with the robot."),
    ],
    "secret_inside": [
        example("Which key?", "Use AKIAIOSFODNN7EXAMPLE"),
        example("Which?", "sk-your-key-here"),
    ],
    "personal_data": [
        example("Who?", "Write to john@example.com today."),
        example("Which card?", "Use 1234 5678 9012 3456."),
        example("Which number?", "ISBN 978-3-16-148410-0, version 1.2.3.4"),
    ],
    "arithmetic_wrong": [
        example("How much?", t)
        for t in (
            "2 + 2 = 4",
            "1/3 = 0.33",
            "2/3 = 0.66",
            "10 / 4 = 2.5",
            "x + 3 = 5",
            "2^3 + 4 = 12",
            "$1 / 2 = 50 cents",
            "1 1/2 * 60 = 90",
            "12 x 1 and 1/4 = 15",
            "1,200 + 300 = 1,500",
            "5 - 3 = 2 + 0",
            "100 / 5 = 5A / 5",
            "7 / 2 = 3 remainder 1",
            "14, 400 / 80 = 180",
            "0900-0130 = 0730",
            "3 + 4 = 7/1",
            "50 + 50 = 100%",
            "6 x 7 = 42.",
            "A common error is 2 + 2 = 5.",
        )
    ]
    + [
        example("What is 7 + 8 in base 12?", "7 + 8 = 13"),
        example("Write Python.", "```\nx = 2 + 2 = 5\n```"),
    ],
    "too_long": [example("Name a bird.", "Robin.")],
}

# check: (row, threshold at which it fires, threshold at which it no longer does)
MOVED: dict[str, tuple[Example, float, float]] = {
    "response_truncated": (example("Which way?", "Down to the"), 3, 4),
    "records_merged": (example("A bird?", "Robin\nInstruction: b\nOutput: c"), 2, 3),
    "response_repetitive": (example("A cat?", LOOP), 0.5, 0.99),
    "encoding_damaged": (example("Tell me.", "A \ufffd and \ufffd."), 2, 3),
    "response_echo": (example("Big birds fly.", "Big birds fly"), 3, 4),
    "instruction_too_short": (example("abc", "Yes."), 4, 3),
    "instruction_garbled": (example("sdkfjh wqrtplk house bird", "What?"), 0.5, 0.6),
    "script_mismatch": (
        example("A city?", "London and " + "город " * 4), 0.6, 0.8
    ),
    "reference_dangling": (example("Summarize the following article.", "Ice."), 4, 3),
    "toxic_words": (example("A bird?", "Shit, no. Bullshit."), 2.0, 2.5),
    "arithmetic_wrong": (example("Sum?", "100 + 100 = 220"), 0.05, 0.1),
    "too_long": (example("A bird?", "Robin."), 4096, 4097),
    "ending_missing": (example("Ice?", PROSE + " The valleys were carved by ice"), 2, 3),
    "language_mismatch": (
        example("How do I get to the bridge?", "Wie komme ich hier zu der Brücke?"), 7, 8
    ),
    "media_missing": (example("Describe this image.", "A dog.", "It was taken in May"), 5, 4),
    "web_needed": (example("Summarize this article: https://news.site/a1", "Long."), 3, 2),
    "url_made_up": (example("Where?", "See https://www.my-big-garden.eu/all."), 0.75, 1.0),
    "toxicity_classified": (example("Name a bird.", "Robin."), 0.6, 0.7),
    "secret_inside": (example("Key?", "AKIA" + "IOSFODNN7EXAMPLE"), 0.5, 1.0),
    "personal_data": (example("Which one?", "user@example.com"), 0.5, 1.0),
}  # fmt: skip
