"""What models and their makers call themselves. Add a name where it belongs; mask.py does the rest.

A name stands under SURE where hardly anything else is called so: it is masked wherever it stands. Under UNSURE stand
names that are words too (a zodiac sign, an animal, a painter's first name): they are masked where the sentence says who
speaks or who made it. Case, spaces, hyphens and the width of letters do not matter: "openai" covers "Open AI".
"""


def _words(text: str) -> list[str]:
    return text.split()


SURE_MODELS = _words("""
ChatGPT GPT-2 GPT-3 GPT-4 GPT-5 GPT-3.5 GPT-4o GPT-OSS InstructGPT Claude-3 Claude-4 Claude-Instant Mixtral Codestral
Qwen QwQ Tongyi-Qianwen DeepSeek ChatGLM InternLM Baichuan Hunyuan Doubao Ernie-Bot MiniMax-Text LLaMA-2 LLaMA-3 LLaMA-4
Gemma-2 Gemma-3 Vicuna-7B Vicuna-13B WizardLM OpenAssistant StableLM StarCoder Nemotron OLMo SmolLM Zephyr-7B DialoGPT
Falcon-7B Falcon-40B Command-R Jurassic-2 Phi-3 Phi-4 PaLM-2 HuggingChat YandexGPT GigaChat SOLAR-10.7B
通义千问 文心一言 豆包 智谱清言 混元 百川大模型 讯飞星火 深度求索 ЧатГПТ チャットGPT 챗GPT 챗지피티 하이퍼클로바
""")

UNSURE_MODELS = _words("""
Claude Gemini Bard LLaMA Gemma Mistral Grok Copilot Falcon Vicuna Alpaca Zephyr Phi PaLM Kimi Ernie Nova GLM GPT Bing
Koala Dolly Granite LaMDA Jamba Hermes Pythia
Клод Джемини Алиса クロード ジェミニ 클로드 제미나이 克劳德 克勞德 千问 星火
""")

SURE_MAKERS = _words("""
OpenAI Anthropic DeepMind Mistral-AI xAI Hugging-Face EleutherAI Cohere-AI Stability-AI Moonshot-AI 01.AI Zhipu-AI
Alibaba-Cloud DeepSeek-AI MiniMax-AI Inflection-AI AI21-Labs Databricks MosaicML LMSYS
阿里云 智谱 智谱AI 月之暗面 零一万物 オープンAI 오픈AI 앤트로픽 アンソロピック Антропик
""")

UNSURE_MAKERS = _words("""
Google Meta Facebook Microsoft Amazon Apple Alibaba Baidu Tencent ByteDance Cohere Mistral NVIDIA IBM Yandex Sber Naver
Samsung Huawei Moonshot Inflection Stability Zhipu Salesforce Snowflake Reka
谷歌 百度 腾讯 字节跳动 阿里巴巴 华为 微软 グーグル マイクロソフト 구글 네이버 Гугл Яндекс Сбер
""")

# What may follow a model's name and tells as much: versions and sizes.
SUFFIXES = _words("sonnet opus haiku pro flash ultra nano turbo mini max plus instruct chat large medium small preview")

# Before an unsure name, in its sentence: who speaks, or who made the speaker. Patterns; letters match in either case.
SPEAKER = [
    r"\bI\s?['’]?\s?a?m\b", r"\bI(?:['’]ve|\shave)\sbeen\b", r"\bI\swas\b", r"\bme\sas\b", r"\bcall(?:ed)?\sme\b",
    r"\bmy\s(?:name|creators?|makers?|developers?|model)\b", r"\bgo\sby\b", r"\bknown\sas\b", r"\byours?\struly\b",
    r"\b(?:talk|chat|speak)ing\s(?:to|with)\b", r"\bas\s(?:an?\s)?(?:ai|large|language|assistant|model|virtual)\b",
    r"\bich\s(?:bin|heiße|heisse|wurde)\b", r"\bbin\sich\b", r"\bmein\sname\b", r"\bje\s(?:suis|m['’]appelle)\b",
    r"\bj['’]ai\sété\b", r"\bmon\snom\b", r"\bsoy\b", r"\bme\sllamo\b", r"\bmi\s(?:nombre|creador)", r"\bfui\b",
    r"\bsono\b", r"\bmi\schiamo\b", r"\bsou\b", r"\bme\schamo\b", r"\bmeu\snome\b", r"\bik\s(?:ben|heet)\b",
    r"\bmijn\snaam\b", r"\bjag\s(?:är|heter)\b", r"\bjeg\s(?:er|heter|hedder)\b", r"\bjestem\b", r"\bnazywam\b",
    r"\bmam\sna\simię\b", r"\bjsem\b", r"\bменя\sзовут\b", r"\bмо[её]\sимя\b", r"\bмене\sзвати\b", r"\bbenim\sadım\b",
]  # fmt: skip
MADE_BY = [
    r"\b(?:made|built|trained|developed|created|designed|powered|produced|released)\s(?:\w+\s){0,3}?(?:by|at|from)\b",
    r"\b(?:model|assistant|ai|chatbot)\s(?:by|from|of)\b", r"\b(?:entwickelt|trainiert|erstellt|erschaffen)\b",
    r"\b(?:développé|créé|entraîné|conçu)\w*\spar\b", r"\b(?:desarrollad|cread|entrenad)\w+\spor\b",
    r"\b(?:sviluppat|creat|addestrat)\w+\sda", r"\b(?:desenvolvid|criad|treinad)\w+\s(?:por|pel[ao])\b",
    r"\b(?:разработан|создан|обучен|розроблен)\w*", r"\b(?:ontwikkeld|getraind|gemaakt)\b", r"\b(?:utvecklad|tränad)\b",
    r"\b(?:stworzon|wytrenowan)\w+", r"由",
]  # fmt: skip
NEAR_SPEAKER = [
    r"\bя\b", r"\bben\b", r"\bolen\b", r"\btôi\b", r"\bsaya\b", r"\bthis\sis\b",
    r"我", r"本模型", r"本助手", r"私", r"僕", r"わたし", r"저는", r"저의", r"나는", r"제\s?이름",
    r"أنا", r"اسمي", r"मैं", r"मेरा",
]  # fmt: skip

# After an unsure name: it made something, it speaks, it signs.
MADE = r".{0,8}(?:开发|研发|训练|推出|開発|作られ|훈련|개발|만든)"
SIGNED = r"\s?(?:here\b|speaking\b|:)"
